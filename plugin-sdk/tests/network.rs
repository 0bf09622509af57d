//! Connections that the host makes for a plugin.

use bulkhead_plugin_sdk::testing::{Harness, paused};
use bulkhead_plugin_sdk::{About, Error, Host, Method, Plugin, Result, Router, about};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// `greet`: sends what is there to a pair.
struct Greet;

impl Method for Greet {
    const NAME: &'static str = "greet";
    type Request = String;
    type Reply = ();
}

struct Client(Host);

impl Plugin for Client {
    const ABOUT: About = about!();
    type Config = serde_json::Value;

    fn routes() -> Router<Self> {
        Router::new().on::<Greet>(Self::greet)
    }

    async fn init(_: serde_json::Value, host: Host) -> Result<Self> {
        Ok(Self(host))
    }
}

impl Client {
    async fn greet(&self, pair: String) -> Result<()> {
        let mut stream = self.0.network().connect(&pair).await?;
        stream.write_all(b"hello").await.map_err(Error::internal)
    }
}

#[test]
fn a_plugin_reaches_who_answers_for_the_pair_and_nobody_else() {
    paused(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let harness = Harness::<Client>::new().connection("[2001:db8::7]:443", address);
        let plugin = harness.start().await.unwrap();
        plugin.call::<Greet>(&"[2001:db8::7]:443".to_owned()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "hello");
        let error = plugin.call::<Greet>(&address.to_string()).await.unwrap_err();
        assert_eq!(error.code(), "PERMISSION_DENIED");
    });
}
