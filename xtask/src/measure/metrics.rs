//! The numbers of a router's admin port.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// One page of `/metrics`.
#[derive(Clone, Debug)]
pub struct Metrics(String);

/// Reads the page from `admin`, an address and a port.
pub fn fetch(admin: &str) -> Result<Metrics> {
    let mut stream = TcpStream::connect(admin).context("the admin port does not answer")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    ensure!(page.starts_with("HTTP/1.1 200"), "the admin port answers {:?}", page.lines().next());
    Ok(Metrics(page))
}

impl Metrics {
    /// The sum of a metric over its labels; 0 if there is none.
    pub fn sum(&self, name: &str) -> f64 {
        self.lines(name).filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The value of a label at the first line of a metric.
    pub fn label<'a>(&'a self, name: &'a str, label: &str) -> Option<&'a str> {
        let begin = format!("{label}=\"");
        let line = self.lines(name).next()?;
        line[line.find(&begin)? + begin.len()..].split('"').next()
    }

    fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let rests = self.0.lines().filter_map(move |line| line.strip_prefix(name));
        rests.filter(|rest| rest.starts_with(['{', ' ']))
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn metrics_are_added_over_their_labels_and_not_taken_for_longer_names() {
        let page =
            "# TYPE a counter\na{shard=\"0\"} 3\na{shard=\"1\"} 4\na_total 9\ninfo{driver=\"epoll\"} 1\n";
        let metrics = Metrics(page.to_owned());
        assert_eq!((metrics.sum("a"), metrics.sum("a_total"), metrics.sum("b")), (7.0, 9.0, 0.0));
        assert_eq!(metrics.label("info", "driver"), Some("epoll"));
        assert_eq!(metrics.label("info", "version"), None);
    }
}
