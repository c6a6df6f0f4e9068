//! The router in a process of its own and the clients that speak to it are those of the stress scenarios.

mod console;
mod framed;
mod http;
pub mod namespace;
mod plain;
mod raw;
pub mod redis;
mod schema;
mod tls;

pub use console::Console;
pub use fanwire_stress::testbed::*;
pub use framed::{Framed, Framing, Heard as FramedHeard, batch};
pub use http::{Answer, Http};
pub use plain::{Plain, Said};
pub use raw::{Raw, Said as RawSaid};
pub use schema::flaws;
pub use tls::{Authority, Tunnel, connect};

/// A program that runs beside a test. Dropping it kills it, also when the test fails.
pub struct Beside(pub std::process::Child);

impl Drop for Beside {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// The drivers that every test runs on.
macro_rules! on_both_drivers {
    ($($(#[$doc:meta])* fn $name:ident($driver:ident: &str) $body:block)*) => {
        $(
            $(#[$doc])*
            mod $name {
                use super::*;

                fn check($driver: &str) $body

                #[test]
                fn io_uring() {
                    check("io_uring");
                }

                #[test]
                fn epoll() {
                    check("epoll");
                }
            }
        )*
    };
}
