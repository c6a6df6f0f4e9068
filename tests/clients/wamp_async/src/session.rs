//! Sessions of `wamp_async` as cases use them.

use tokio::sync::mpsc::UnboundedReceiver;
use wamp_async::{Client, ClientConfig, SerializerType, WampArgs, WampError, WampId, WampKwArgs};

use crate::Failure;

/// The events of a subscription: publication, positions and keywords.
pub type Inbox = UnboundedReceiver<(WampId, Option<WampArgs>, Option<WampKwArgs>)>;

/// Where sessions connect, and how.
#[derive(Clone)]
pub struct Place {
    url: String,
    serializer: String,
}

impl Place {
    /// `rs://` is `tcp://` in this client's words.
    pub fn new(url: &str, serializer: &str) -> Self {
        Self { url: url.replacen("rs://", "tcp://", 1), serializer: serializer.to_owned() }
    }

    /// A session in this realm.
    pub async fn join(&self, realm: &str) -> Result<Client<'static>, WampError> {
        let mut client = self.connect().await?;
        client.join_realm(realm).await?;
        Ok(client)
    }

    /// A connection that has joined no realm.
    pub async fn connect(&self) -> Result<Client<'static>, WampError> {
        let serializer = match self.serializer.as_str() {
            "json" => SerializerType::Json,
            _ => SerializerType::MsgPack,
        };
        let config = ClientConfig::default().set_serializers(vec![serializer]);
        let (client, (events, calls)) = Client::connect(&self.url, Some(config)).await?;
        tokio::spawn(events);
        if let Some(mut calls) = calls {
            tokio::spawn(async move {
                while let Some(call) = calls.recv().await {
                    tokio::spawn(call);
                }
            });
        }
        Ok(client)
    }

    /// So many sessions.
    pub async fn join_many(&self, count: usize) -> Result<Vec<Client<'static>>, Failure> {
        let mut sessions = Vec::new();
        for _ in 0..count {
            sessions.push(self.join("realm1").await.map_err(words)?);
        }
        Ok(sessions)
    }
}

/// The next event: positions and keywords.
pub async fn next(events: &mut Inbox) -> Result<(WampArgs, WampKwArgs), Failure> {
    let (_, args, kwargs) = events.recv().await.ok_or("the connection ended")?;
    Ok((args.unwrap_or_default(), kwargs.unwrap_or_default()))
}

/// An error in its own words.
pub fn words(error: WampError) -> Failure {
    error.to_string()
}

/// It must be refused with this error.
pub fn refused<T>(result: Result<T, WampError>, uri: &str) -> Result<(), Failure> {
    match result {
        Ok(_) => Err(format!("expected {uri}, but it succeeded")),
        Err(error) if error.to_string().contains(uri) => Ok(()),
        Err(error) => Err(format!("expected {uri}, got {error}")),
    }
}

/// Both must be the same.
pub fn equal<T: PartialEq + std::fmt::Debug>(found: T, wanted: T, what: &str) -> Result<(), Failure> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: expected {wanted:?}, got {found:?}")) }
}

/// All of them say goodbye.
pub async fn leave(sessions: Vec<Client<'static>>) -> Result<(), Failure> {
    for session in sessions {
        session.disconnect().await;
    }
    Ok(())
}
