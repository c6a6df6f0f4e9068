//! Where a bridge's Redis is, asked on a thread of its own.
//!
//! The system's resolver blocks, for minutes where name servers are away. On the runtime's blocking threads that would be the
//! time of logins, whose keys are derived there.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::io::AsyncDNSResolver;
use redis::{ErrorKind, RedisError, RedisFuture};
use tokio::sync::oneshot;

/// One look-up at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Resolver {
    /// A thread waits for the system.
    busy: Arc<AtomicBool>,
}

impl AsyncDNSResolver for Resolver {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        let host = host.to_owned();
        Box::pin(async move {
            let found = match host.parse::<IpAddr>() {
                Ok(address) => vec![SocketAddr::new(address, port)],
                Err(_) => self.look_up(host, port).await?,
            };
            Ok(Box::new(found.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
}

impl Resolver {
    async fn look_up(&self, host: String, port: u16) -> Result<Vec<SocketAddr>, RedisError> {
        let slow = || RedisError::from((ErrorKind::Io, "the name server does not answer"));
        if self.busy.swap(true, Ordering::Relaxed) {
            return Err(slow());
        }
        let busy = Busy(Arc::clone(&self.busy));
        let (sender, found) = oneshot::channel();
        let look_up = move || {
            let found = (host.as_str(), port).to_socket_addrs().map(Vec::from_iter);
            drop(busy);
            // Who has asked may have given up.
            _ = sender.send(found);
        };
        std::thread::Builder::new().name("fanwire-resolve".to_owned()).spawn(look_up)?;
        Ok(found.await.map_err(|_| slow())??)
    }
}

/// Also if the thread cannot be made.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_need_nobody_and_names_are_asked_one_at_a_time() {
        let resolver = Resolver::default();
        let found = async |host| resolver.resolve(host, 1).await.map(|found| found.collect::<Vec<_>>());
        assert_eq!(found("127.0.0.1").await.expect("an address"), [([127, 0, 0, 1], 1).into()]);
        assert!(!found("localhost").await.expect("a name of this machine").is_empty());
        resolver.busy.store(true, Ordering::Relaxed);
        assert!(found("localhost").await.is_err());
        assert!(found("::1").await.is_ok());
    }
}
