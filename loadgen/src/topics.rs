//! Which topics there are, how popular each is, and which subscriber checks which publisher's messages.
//!
//! ```text
//! fanout              one topic, or several of which each publication chooses one by popularity
//! pairs, rooms        publisher n has topic n modulo topics
//!
//! flow   = the messages of one publisher to one topic, numbered from 0; flow % topics is the topic
//! stream = a flow as one subscriber of its topic gets it: what is verified
//! ```

use std::sync::Arc;

use crate::plan::Assignment;

/// How unequal topics are in size and traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Skew {
    /// All alike.
    None,
    /// The k-th topic has 1/k^s of the first one's share (Zipf's law).
    Zipf(f64),
}

impl Skew {
    /// `none` or `zipf:1.0`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad =
            || format!("'{text}' is not a skew; write none, or zipf:1.0 (0 is even, 1 usual, 2 extreme)");
        match text.split_once(':') {
            None if text == "none" => Ok(Skew::None),
            Some(("zipf", exponent)) => match exponent.parse::<f64>() {
                Ok(exponent) if (0.0..=10.0).contains(&exponent) => Ok(Skew::Zipf(exponent)),
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }

    fn weight(self, index: usize) -> f64 {
        match self {
            Skew::None => 1.0,
            Skew::Zipf(exponent) => ((index + 1) as f64).powf(-exponent),
        }
    }

    /// Deals `total` out to `count` places by weight. Everybody gets one as long as there is enough.
    pub fn deal(self, total: usize, count: usize) -> Vec<usize> {
        let sum: f64 = (0..count).map(|index| self.weight(index)).sum();
        let each = usize::from(total >= count);
        let rest = total - each * count;
        let mut places: Vec<usize> =
            (0..count).map(|index| each + (rest as f64 * self.weight(index) / sum) as usize).collect();
        let missing = total.saturating_sub(places.iter().sum());
        // What rounding has left, less than one each, goes to the first.
        places.iter_mut().take(missing).for_each(|place| *place += 1);
        places
    }
}

impl std::fmt::Display for Skew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Skew::None => f.write_str("none"),
            Skew::Zipf(exponent) => write!(f, "zipf:{exponent}"),
        }
    }
}

/// The topics of a run.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    /// Their names.
    pub names: Vec<Arc<str>>,
    /// Verified subscribers of each, of all threads.
    pub sizes: Vec<usize>,
    /// (publisher, topic) pairs.
    pub flows: usize,
    /// Each publication chooses its topic: the sums of the shares up to each, rising to 1. Empty: each publisher has one.
    shares: Vec<f64>,
}

impl Topics {
    /// One topic that all of `publishers` send to, with `subscribers`.
    pub fn one(name: &str, publishers: usize, subscribers: usize) -> Self {
        Self { names: vec![name.into()], sizes: vec![subscribers], flows: publishers, shares: Vec::new() }
    }

    /// Topics of these sizes; publisher n sends to topic n modulo their number.
    pub fn own(prefix: &str, publishers: usize, sizes: Vec<usize>) -> Self {
        let names = (0..sizes.len()).map(|n| format!("{prefix}.t{n}").into()).collect();
        Self { names, sizes, flows: publishers, shares: Vec::new() }
    }

    /// `count` topics of which each publication chooses one; subscribers and publications are dealt out by `skew`.
    pub fn chosen(prefix: &str, publishers: usize, subscribers: usize, count: usize, skew: Skew) -> Self {
        let sizes = skew.deal(subscribers, count);
        let sum: f64 = (0..count).map(|index| skew.weight(index)).sum();
        let shares = (0..count).scan(0.0, |before, index| {
            *before += skew.weight(index) / sum;
            Some(*before)
        });
        let shares = shares.collect();
        Self { shares, flows: publishers * count, ..Self::own(prefix, publishers, sizes) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// The flow of the next message of `publisher`. `random` decides where there is a choice.
    #[inline]
    pub fn choose(&self, publisher: u32, random: u64) -> usize {
        if self.shares.is_empty() {
            return publisher as usize;
        }
        let at = random as f64 / u64::MAX as f64;
        let topic = self.shares.partition_point(|share| *share < at).min(self.count() - 1);
        publisher as usize * self.count() + topic
    }

    /// Whether each publication chooses its topic.
    pub fn has_choice(&self) -> bool {
        !self.shares.is_empty()
    }

    /// The topic of a flow.
    #[inline]
    pub fn of_flow(&self, flow: usize) -> usize {
        flow % self.count()
    }

    /// The flows that go to `topic`.
    pub fn flows_of(&self, topic: usize) -> impl Iterator<Item = usize> + use<> {
        (topic..self.flows).step_by(self.count())
    }

    /// (flow, subscriber) pairs that have to be verified.
    pub fn streams(&self) -> usize {
        self.sizes
            .iter()
            .enumerate()
            .map(|(topic, size)| self.flows_of(topic).count().saturating_mul(*size))
            .sum()
    }

    /// The topic of each subscriber, in the order in which connections are dealt out.
    pub fn of_subscribers(&self) -> impl Iterator<Item = usize> {
        self.sizes.iter().enumerate().flat_map(|(topic, size)| std::iter::repeat_n(topic, *size))
    }
}

/// Where the streams of one thread's receivers of one kind are in their verifier: by topic, then by flow, then by
/// receiver, so that one publication goes through its receivers in one run of memory.
#[derive(Debug)]
pub struct Streams {
    topics: usize,
    /// Where each topic begins, and how many receivers it has here.
    topic: Vec<(usize, usize)>,
    /// By receiver: its topic and its place in it. Empty if there is only one topic.
    places: Vec<(u32, u32)>,
    receivers: usize,
    streams: usize,
}

impl Streams {
    /// For the connections of a thread that `is` picks, in their order.
    pub fn new(topics: &Topics, assignments: &[Assignment], is: impl Fn(&Assignment) -> bool) -> Self {
        let mut topic = vec![(0, 0); topics.count()];
        let mut places = Vec::new();
        for assignment in assignments.iter().filter(|assignment| is(assignment)) {
            let count = &mut topic[assignment.topic as usize].1;
            places.push((assignment.topic, *count as u32));
            *count += 1;
        }
        let mut streams = 0;
        for (index, (begin, count)) in topic.iter_mut().enumerate() {
            *begin = streams;
            streams += *count * topics.flows_of(index).count();
        }
        let receivers = places.len();
        if topics.count() == 1 {
            places = Vec::new();
        }
        Self { topics: topics.count(), topic, places, receivers, streams }
    }

    /// How many streams there are.
    pub fn count(&self) -> usize {
        self.streams
    }

    /// The receivers.
    pub fn receivers(&self) -> usize {
        self.receivers
    }

    /// Receivers of `topic` on this thread.
    pub fn receivers_of(&self, topic: usize) -> usize {
        self.topic[topic].1
    }

    /// The topic of `receiver`.
    pub fn topic_of(&self, receiver: usize) -> usize {
        self.places.get(receiver).map_or(0, |place| place.0 as usize)
    }

    /// The stream of `flow` at `receiver`; `None` if that receiver has not subscribed to its topic.
    #[inline]
    pub fn at(&self, flow: usize, receiver: usize) -> Option<usize> {
        if self.topics == 1 {
            return Some(flow * self.receivers + receiver);
        }
        let (topic, place) = self.places[receiver];
        if flow % self.topics != topic as usize {
            return None;
        }
        let (begin, count) = self.topic[topic as usize];
        Some(begin + flow / self.topics * count + place as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skews_are_read_and_refused() {
        assert_eq!(Skew::parse("none"), Ok(Skew::None));
        assert_eq!(Skew::parse("zipf:1.2"), Ok(Skew::Zipf(1.2)));
        for text in ["zipf", "zipf:-1", "zipf:x", "even"] {
            assert!(Skew::parse(text).unwrap_err().contains("zipf:1.0"), "{text}");
        }
    }

    #[test]
    fn everything_is_dealt_out_and_the_first_get_most() {
        assert_eq!(Skew::None.deal(10, 4), [3, 3, 2, 2]);
        assert_eq!(Skew::None.deal(2, 4), [1, 1, 0, 0]);
        let sizes = Skew::Zipf(1.0).deal(1_000, 10);
        assert_eq!(sizes.iter().sum::<usize>(), 1_000);
        assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes[0] > 300 && sizes[9] > 30, "{sizes:?}");
    }

    #[test]
    fn publications_choose_by_popularity() {
        let topics = Topics::chosen("a", 2, 100, 4, Skew::Zipf(1.0));
        let mut counts = [0; 4];
        let mut random = 1u64;
        for _ in 0..10_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let flow = topics.choose(1, random);
            assert_eq!(flow / 4, 1, "the publisher");
            counts[topics.of_flow(flow)] += 1;
        }
        assert!((4_600..5_000).contains(&counts[0]) && (1_000..1_400).contains(&counts[3]), "{counts:?}");
        assert_eq!(topics.flows_of(1).collect::<Vec<_>>(), [1, 5]);
    }
}
