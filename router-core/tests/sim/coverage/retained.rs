//! What the runs met of retained events.

use crate::{
    history::{Event, Keep, Op, Seen},
    names,
};

/// None of which runs may do without.
pub const MUST_HAPPEN: &[&str] = &[
    "kept: publications",
    "kept: acknowledged publications",
    "kept: publications with lists",
    "kept: publications by API",
    "kept: ends of it",
    "kept: ends of it for some",
    "kept: asked for",
    "kept: asked for by prefix",
    "kept: asked for by wildcard",
    "kept: seen",
    "kept: seen by pattern",
    "kept: no room",
    "looks into histories",
    "looks into histories by pattern",
    "looks into histories that have nothing",
];

/// What a line of history is, beside what else it is.
pub fn names(event: &Event) -> &'static [&'static str] {
    match event {
        Event::Did { op: Op::Publish { keep: Keep::Kept, lists, acknowledge, receipt, .. }, .. } => {
            match (lists, acknowledge) {
                _ if *receipt => &["kept: publications by API"],
                (Some(_), _) => &["kept: publications with lists"],
                (None, true) => &["kept: acknowledged publications"],
                (None, false) => &["kept: publications"],
            }
        }
        Event::Did { op: Op::Publish { keep: Keep::Ends, lists, .. }, .. } => match lists {
            Some(_) => &["kept: ends of it for some"],
            None => &["kept: ends of it"],
        },
        Event::Did { op: Op::Subscribe { get_retained: true, topic, .. }, .. } => {
            match names::request(*topic).0 {
                names::MatchPolicy::Exact => &["kept: asked for"],
                names::MatchPolicy::Prefix => &["kept: asked for by prefix"],
                names::MatchPolicy::Wildcard => &["kept: asked for by wildcard"],
            }
        }
        Event::Saw { seen: Seen::Event { retained: true, topic, .. }, .. } => match topic {
            Some(_) => &["kept: seen by pattern"],
            None => &["kept: seen"],
        },
        _ => &[],
    }
}
