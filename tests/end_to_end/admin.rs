//! The operator's port.

use serde_json::json;

use crate::support::{Client, Router, eventually, get, http, status};

on_both_drivers! {
    fn health_and_metrics_are_served(driver: &str) {
        let router = Router::on(driver);
        for path in ["/livez", "/readyz"] {
            assert_eq!(status(&get(router.admin, path)), 200, "{path}");
        }
        assert_eq!(status(&get(router.admin, "/no-such-page")), 404);
        let posted = http(
            router.admin,
            b"POST /metrics HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(status(&posted), 405);
        let metrics = get(router.admin, "/metrics");
        assert_eq!(status(&metrics), 200);
        let body = metrics.split_once("\r\n\r\n").expect("a body").1;
        for line in body.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let value = line.rsplit(' ').next().expect("a value");
            assert!(value.parse::<f64>().is_ok() || line.trim().chars().all(|c| c.is_ascii_hexdigit()), "{line}");
        }
    }

    fn traffic_is_counted(driver: &str) {
        let router = Router::on(driver);
        let mut subscribers: Vec<_> = (0..8).map(|_| Client::join(router.wamp)).collect();
        for subscriber in &mut subscribers {
            subscriber.subscribe("com.fanwire.counted");
        }
        let mut publisher = Client::join(router.wamp);
        for number in 0..10 {
            publisher.publish("com.fanwire.counted", json!([number]));
            for subscriber in &mut subscribers {
                assert_eq!(subscriber.expect_event(), json!([number]));
            }
        }
        // The counters are published once a turn, so they may come after the event.
        eventually("80 deliveries to 9 sessions", || {
            router.metric("fanwire_events_delivered_total", "") == 80.0 && router.metric("fanwire_sessions", "") == 9.0
        });
        assert_eq!(router.metric("fanwire_publications_total", ""), 10.0);
    }
}
