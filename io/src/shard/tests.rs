//! What only the inside can arrange: a decoder with a bug. Everything else is in `tests/shards.rs`.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::Driver;
use support::{Client, Word, config, counter, exchange, run, text, upgrade_request};

/// The next piece of decoding panics.
pub(super) static BUG: AtomicBool = AtomicBool::new(false);

#[test]
fn a_panic_while_decoding_ends_one_connection() {
    let running = run(config(Driver::Auto));
    let mut other = Client::new(&running);
    let mut victim = Client::new(&running);

    BUG.store(true, Ordering::SeqCst);
    victim.send_text("anything");
    assert_eq!(victim.hear(), Word::Close(Some(1011)));
    victim.send_close(1011);
    assert_eq!(victim.hear(), Word::End);
    assert_eq!(counter(&running, "decoder_panics", ""), 1);

    BUG.store(true, Ordering::SeqCst);
    assert!(exchange(&running, &upgrade_request()).starts_with("HTTP/1.1 500 "));
    assert_eq!(counter(&running, "decoder_panics", ""), 2);

    // In the middle of a message that is received straight into its place.
    let frame = support::frame(fanwire_codec::ws::Kind::Binary, &vec![1; 900_000]);
    let mut victim = Client::new(&running);
    victim.socket.write_all(&frame[..700_000]).unwrap();
    support::eventually("it was received", || counter(&running, "received_bytes", "") > 700_000);
    BUG.store(true, Ordering::SeqCst);
    victim.socket.write_all(&frame[700_000..]).unwrap();
    assert_eq!(victim.hear(), Word::Close(Some(1011)));

    other.send_text("unharmed");
    assert_eq!(other.hear(), text("unharmed"));
}
