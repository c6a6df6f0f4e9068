//! One thing that happens to a connection, while a script is at it: what it has said so far, and what it waits for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use fanwire_codec::payload::OwnedPayload;
use fanwire_core::api::Order;
use fanwire_core::ids::ClientId;
use mlua::Function;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::context::Context;
use super::http::HttpRequest;

/// A connection, as its thread knows it.
#[derive(Debug)]
pub(super) struct Conn<J> {
    pub(super) client: ClientId,
    pub(super) peer: Cell<Option<SocketAddr>>,
    pub(super) context: RefCell<Context>,
    /// Says that the context is another one.
    pub(super) changed: Notify,
    /// What waits for its turn: one after another.
    pub(super) jobs: RefCell<VecDeque<J>>,
    pub(super) is_busy: Cell<bool>,
    /// Requests beside its events whose callbacks have not been called.
    beside: Rc<Cell<usize>>,
}

impl<J> Conn<J> {
    pub(super) fn new(client: ClientId) -> Self {
        Self {
            client,
            peer: Cell::new(None),
            context: RefCell::default(),
            changed: Notify::new(),
            jobs: RefCell::default(),
            is_busy: Cell::new(false),
            beside: Rc::default(),
        }
    }
}

/// What scripts may know and say of a connection.
pub(super) trait Connection {
    fn client(&self) -> ClientId;
    fn peer(&self) -> Option<SocketAddr>;
    fn context(&self) -> &RefCell<Context>;
    /// A place for a request with a callback.
    fn beside(&self) -> Option<Beside>;
}

/// The place of a request beside a connection's events, until its callback was called.
#[derive(Debug)]
pub(super) struct Beside(Rc<Cell<usize>>);

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Requests with callbacks of one connection.
pub(super) const BESIDE_MAX: usize = 64;

impl<J> Connection for Conn<J> {
    fn client(&self) -> ClientId {
        self.client
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.peer.get()
    }

    fn context(&self) -> &RefCell<Context> {
        &self.context
    }

    fn beside(&self) -> Option<Beside> {
        let count = self.beside.get();
        (count < BESIDE_MAX).then(|| {
            self.beside.set(count + 1);
            Beside(Rc::clone(&self.beside))
        })
    }
}

/// An event in hand.
pub(super) struct Event {
    pub(super) conn: Rc<dyn Connection>,
    /// What is done with the connection, in this order, once the script waits or has ended.
    pub(super) orders: RefCell<Vec<Order>>,
    /// Bytes of them.
    pub(super) ordered: Cell<usize>,
    /// Noted by a call that waits, right before it does.
    pub(super) wait: RefCell<Option<Wait>>,
    /// Requests whose answers come by a call of their own.
    pub(super) detached: RefCell<Vec<(HttpRequest, Function, Beside)>>,
    /// From here on its time runs.
    pub(super) began: Instant,
    /// Instructions that it has left.
    pub(super) left: Cell<u64>,
    /// The script has closed the connection.
    pub(super) is_closed: Cell<bool>,
}

/// What a script waits for.
#[derive(Debug)]
pub(super) enum Wait {
    /// That this is done with its connection.
    Order(Order),
    /// That this is done with another one.
    Other(ClientId, Order),
    /// How many get a publication.
    Publication { topic: Box<str>, payload: OwnedPayload },
    /// The answer to a request.
    Http(Box<HttpRequest>),
    /// That something is known of its connection.
    Context { key: Box<str>, time: Option<Duration> },
}

/// What one event may say before it waits or ends.
const ORDERS_MAX: usize = 10_000;
const ORDERED_BYTES_MAX: usize = 16 << 20;

impl Event {
    pub(super) fn new(conn: Rc<dyn Connection>, instructions: u64) -> Self {
        Self {
            conn,
            orders: RefCell::default(),
            ordered: Cell::new(0),
            wait: RefCell::default(),
            detached: RefCell::default(),
            began: Instant::now(),
            left: Cell::new(instructions),
            is_closed: Cell::new(false),
        }
    }

    /// Notes what is to be done with the connection.
    pub(super) fn order(&self, order: Order, bytes: usize) -> Result<(), String> {
        if self.is_closed.get() {
            return Err("the connection is closed".to_owned());
        }
        let bytes = self.ordered.get() + bytes;
        let mut orders = self.orders.borrow_mut();
        if orders.len() == ORDERS_MAX || bytes > ORDERED_BYTES_MAX {
            return Err(format!(
                "one event may say {ORDERS_MAX} messages and {ORDERED_BYTES_MAX} bytes at most"
            ));
        }
        self.ordered.set(bytes);
        orders.push(order);
        Ok(())
    }

    /// Takes what is to be done so far, with `last` behind it.
    pub(super) fn take_orders(&self, last: Option<Order>) -> Option<Order> {
        self.ordered.set(0);
        let mut orders = self.orders.take();
        orders.extend(last);
        if orders.len() > 1 { Some(Order::All(orders)) } else { orders.pop() }
    }
}
