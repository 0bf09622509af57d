//! The terminal, and the loop between it, the service and the model.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::{AbortHandle, JoinSet};

use super::feed::Feed;
use super::model::{Command, Message, Model, update};
use super::view::{self, Theme};
use crate::cli::Ended;
use crate::cli::client::Client;
use crate::cli::problem::Problem;
use crate::cli::render;
use crate::failure::Code;

/// How many messages may wait, and how many are taken before the screen is drawn again.
const WAITING: usize = 256;

/// The screen as `top` has it. Dropped, it is as it was before.
struct Terminal(DefaultTerminal);

impl Terminal {
    /// A panic gives the terminal back first as well.
    fn enter() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to give back.
        let _ = ratatui::try_restore();
        let _ = self.0.show_cursor();
    }
}

/// What goes on beside the loop.
struct Tasks {
    feed: Feed,
    tell: Sender<Message>,
    refresh: Arc<Notify>,
    running: JoinSet<()>,
    log: Option<AbortHandle>,
}

/// Shows the plugins until somebody quits, or the terminal goes away.
pub(super) async fn run(client: Client, interval: Duration) -> Result<(), Ended> {
    let feed = Feed::new(client);
    // A service that is not there is said as by every other verb.
    let first = feed.sample().await?;
    let (tell, mut messages) = mpsc::channel(WAITING);
    let mut signals = Signals::new()?;
    let mut terminal = Terminal::enter()?;
    let size = terminal.0.size()?;
    let mut model = Model::new(size.width, size.height);
    let mut tasks = Tasks::new(feed, tell, interval);
    let mut commands = update(&mut model, Message::Sampled(first));
    let theme = Theme::new(render::colourful());
    loop {
        for command in commands {
            if command == Command::Quit {
                return Ok(());
            }
            tasks.perform(command);
        }
        terminal.0.draw(|frame| view::draw(&model, theme, frame))?;
        tokio::select! {
            Some(message) = messages.recv() => {
                commands = take(&mut model, message, &mut messages);
            }
            () = signals.next() => return Ok(()),
            Some(Err(error)) = tasks.running.join_next(), if !tasks.running.is_empty() => {
                commands = Vec::new();
                if error.is_panic() {
                    return Err(Problem::new(Code::Internal, error.to_string()).into());
                }
            }
        }
    }
}

/// Takes a message in, and those that wait behind it.
fn take(model: &mut Model, message: Message, messages: &mut Receiver<Message>) -> Vec<Command> {
    let mut commands = update(model, message);
    for _ in 0..WAITING {
        let Ok(message) = messages.try_recv() else { break };
        commands.extend(update(model, message));
    }
    commands
}

impl Tasks {
    fn new(feed: Feed, tell: Sender<Message>, interval: Duration) -> Self {
        let refresh = Arc::new(Notify::new());
        let mut running = JoinSet::new();
        let (watching, now, to) = (feed.clone(), Arc::clone(&refresh), tell.clone());
        running.spawn(async move { watching.watch(interval, &now, to).await });
        let (hearing, now, to) = (feed.clone(), Arc::clone(&refresh), tell.clone());
        running.spawn(async move { hearing.hear(&now, to).await });
        let keys = tell.clone();
        // It ends with the process: reading from a terminal cannot be broken off.
        std::thread::spawn(move || read(&keys));
        Self { feed, tell, refresh, running, log: None }
    }

    fn perform(&mut self, command: Command) {
        let feed = self.feed.clone();
        match command {
            Command::Quit => {}
            Command::Refresh => self.refresh.notify_one(),
            Command::Measure(id) => self.ask(async move {
                feed.measure(&id).await.map(|storage| Message::Stored { id, storage })
            }),
            Command::Remember(id) => self.ask(async move {
                let history = feed.remember(&id).await;
                Some(Message::Remembered { id, history })
            }),
            Command::Inspect(id) => self.ask(async move {
                let lines = feed.inspect(&id).await;
                Some(Message::Inspected { id, lines })
            }),
            Command::Enable(id) => {
                self.ask(async move { Some(Message::Done(feed.enable(&id).await)) });
            }
            Command::Disable(id) => {
                self.ask(async move { Some(Message::Done(feed.disable(&id).await)) });
            }
            Command::Follow(id) => {
                self.unfollow();
                self.log = Some(self.running.spawn(feed.log(id, self.tell.clone())));
            }
            Command::Unfollow => self.unfollow(),
        }
    }

    fn ask(&mut self, asked: impl Future<Output = Option<Message>> + Send + 'static) {
        let tell = self.tell.clone();
        self.running.spawn(async move {
            if let Some(message) = asked.await {
                // Nobody listens once somebody has quit.
                let _ = tell.send(message).await;
            }
        });
    }

    fn unfollow(&mut self) {
        if let Some(log) = self.log.take() {
            log.abort();
        }
    }
}

/// Reads the terminal, for as long as there is one.
fn read(tell: &Sender<Message>) {
    loop {
        let message = match event::read() {
            Ok(Event::Key(key)) => Message::Key(key),
            Ok(Event::Resize(width, height)) => Message::Resized(width, height),
            Ok(_) => continue,
            Err(_) => Message::Closed,
        };
        let closed = matches!(message, Message::Closed);
        if tell.blocking_send(message).is_err() || closed {
            return;
        }
    }
}

/// The signals that ask a program to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
