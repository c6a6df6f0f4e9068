//! Very many channels with one subscriber each: what one costs, and how long a publication to one of them takes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::message_center::{done, launch_with, users};
use crate::support::{Client, Router, allow_descriptors, eventually};

/// Connections, and channels of each. With `FANWIRE_FULL` as many as fit a limit of 20,000 descriptors.
fn size() -> (usize, usize) {
    if std::env::var_os("FANWIRE_FULL").is_some() { (19_000, 53) } else { (500, 100) }
}

/// What a channel may cost, in bytes. The measured figures are in `docs/performance.md`; 300 is the aim.
const BYTES_MAX: u64 = 5 * 300;
const PUBLICATIONS: usize = 1_000;

fn resident(router: &Router) -> u64 {
    router.metric("process_resident_memory_bytes", "") as u64
}

on_both_drivers! {
    fn s2_17_very_many_channels_with_one_subscriber_each(driver: &str) {
        let (connections, each) = size();
        allow_descriptors(connections as u64 + 1_000);
        let hook = users();
        let (_folder, router) = launch_with(driver, "channels", &hook.url(), "", "");
        let connect = || Client::connect_to_center(router.wamp, "/message-center");
        let mut clients: Vec<Client> = (0..connections).map(|_| connect()).collect();
        let sessions = || router.metric("fanwire_sessions", "protocol=\"message_center\"");
        eventually("all of them", || sessions() == connections as f64);
        let before = resident(&router);
        let video = |connection: usize, number: usize| connection * each + number;
        for (connection, client) in clients.iter_mut().enumerate() {
            for number in 0..each {
                client.send(json!({"op": "subscribe", "channel": format!("{}@video", video(connection, number))}));
            }
            for _ in 0..each {
                assert_eq!(client.expect(), done());
            }
        }
        let channels = (connections * each) as u64;
        let per_channel = resident(&router).saturating_sub(before) / channels;
        let mut publisher = Client::join(router.wamp);
        let mut took: Vec<Duration> = (0..PUBLICATIONS)
            .map(|round| {
                // A prime, so that they are all over the place.
                let channel = round * 7_919 % channels as usize;
                let began = Instant::now();
                publisher.publish(&format!("video:{channel}"), json!([round]));
                let event = json!({"event": format!("{channel}@video"), "data": round});
                assert_eq!(clients[channel / each].expect(), event);
                began.elapsed()
            })
            .collect();
        took.sort_unstable();
        println!(
            "{channels} channels of {connections} connections: {per_channel} bytes each; from a publication to its event p50 {:?}, p99 {:?}",
            took[PUBLICATIONS / 2],
            took[PUBLICATIONS * 99 / 100],
        );
        assert!(per_channel <= BYTES_MAX, "{per_channel} bytes for each channel");
    }
}
