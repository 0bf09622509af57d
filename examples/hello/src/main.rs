//! Greets people and remembers how often.

use bulkhead_plugin_sdk::{About, Error, Host, Method, Plugin, Result, Router, about};

/// A method is a type: its name, what it takes, what it gives.
struct Greet;

impl Method for Greet {
    const NAME: &'static str = "greet";
    type Request = String;
    type Reply = String;
}

struct Hello {
    host: Host,
}

impl Hello {
    async fn greet(&self, name: String) -> Result<String> {
        if name.is_empty() {
            return Err(Error::new("NAME_EMPTY", "the name is empty; say whom to greet"));
        }
        // State is on disk when `set` returns, and survives restarts and upgrades.
        let key = format!("greeted/{name}");
        let times = self.host.state().get(&key).await?.unwrap_or(0_u32) + 1;
        self.host.state().set(&key, &times).await?;
        self.host.log().with("times", times).info("greeted somebody");
        Ok(if times == 1 { format!("Hello, {name}!") } else { format!("Hello again, {name}!") })
    }
}

impl Plugin for Hello {
    const ABOUT: About = about!();
    type Config = ();

    fn routes() -> Router<Self> {
        Router::new().on::<Greet>(Self::greet)
    }

    async fn init((): (), host: Host) -> Result<Self> {
        Ok(Self { host })
    }
}

fn main() -> std::process::ExitCode {
    bulkhead_plugin_sdk::run::<Hello>()
}

#[cfg(test)]
mod tests {
    use bulkhead_plugin_sdk::testing::{Harness, paused};

    use super::*;

    /// The real protocol and state, in memory: no service, no root.
    #[test]
    fn it_greets_and_remembers() {
        paused(async {
            let hello = Harness::<Hello>::new().start().await.unwrap();
            assert_eq!(hello.call::<Greet>(&"Hine".into()).await.unwrap(), "Hello, Hine!");
            assert_eq!(hello.call::<Greet>(&"Hine".into()).await.unwrap(), "Hello again, Hine!");
            assert_eq!(hello.state()["greeted/Hine"], 2);
            let error = hello.call::<Greet>(&String::new()).await.unwrap_err();
            assert_eq!(error.code(), "NAME_EMPTY");
            hello.stop().await.unwrap();
        });
    }
}
