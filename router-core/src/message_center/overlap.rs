//! Whether a topic that is for some alone can be had by another rule.
//!
//! What has to be protected is the topic, and not the rule: one that anybody may use must not lead to a topic of one that needs a
//! login, nor a rule to a topic with something of the context unless it has the same of the context in the same place. Where
//! two rules are made alike as far as that goes, a topic read backwards tells whose it is (see [`template`](crate::template)).
//! Elsewhere no topic may be both: that is asked of two small automata, which take what can be filled in, and rather more.

use std::collections::BTreeMap;

use super::rules::ChannelRule;
use crate::template::{Piece, is_free};

/// Two rules that could lead to one topic though they must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The place of the rule, from 0 on, whose topics are for some alone.
    pub guarded: usize,
    /// The place of the other one.
    pub other: usize,
    /// Such a topic.
    pub topic: String,
}

/// The rules that would give away what is for some alone: none of a sound configuration.
pub fn overlaps(rules: &[ChannelRule]) -> Vec<Overlap> {
    let ends: Vec<char> = rules.iter().flat_map(ChannelRule::context_ends).collect();
    let automata: Vec<Automaton> = rules.iter().map(Automaton::of).collect();
    let mut found = Vec::new();
    for (guarded, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.needs_login()) {
        for (other, another) in rules.iter().enumerate() {
            if other == guarded || rule.is_guarded_by(another) {
                continue;
            }
            let topic = automata[guarded].common(&automata[other], &ends);
            found.extend(topic.map(|topic| Overlap { guarded, other, topic }));
        }
    }
    found
}

impl ChannelRule {
    /// Characters that no value of the context may have: each stands behind one.
    pub(super) fn context_ends(&self) -> impl Iterator<Item = char> {
        let ends = self.name.with_ends().filter(|(piece, _)| matches!(piece, Piece::Context(_)));
        ends.filter_map(|(_, end)| end)
    }

    /// Whether who has a topic of this rule by another one may have it by this one.
    fn is_guarded_by(&self, other: &Self) -> bool {
        let pieces = self.name.pieces();
        let Some(last) = pieces.iter().rposition(|piece| matches!(piece, Piece::Context(_))) else {
            return other.needs_login();
        };
        let alike = |(one, other): (&Piece, &Piece)| match (one, other) {
            (Piece::Capture(_), Piece::Capture(_)) => true,
            _ => one == other,
        };
        let others = other.name.pieces();
        others.len() > last && pieces[..=last].iter().zip(others).all(alike)
    }
}

/// What a character may be.
#[derive(Clone, Copy, Debug)]
enum Class {
    This(char),
    /// Of a capture, which ends there.
    Free(Option<char>),
    /// Of a value of the context.
    Context,
}

impl Class {
    fn has(self, character: char, ends: &[char]) -> bool {
        match self {
            Self::This(this) => this == character,
            Self::Free(end) => is_free(character) && end != Some(character),
            Self::Context => !ends.contains(&character),
        }
    }

    /// A character that both have.
    fn common(self, other: Self, ends: &[char]) -> Option<char> {
        let both = |character: &char| self.has(*character, ends) && other.has(*character, ends);
        match (self, other) {
            (Self::This(this), _) | (_, Self::This(this)) => Some(this).filter(both),
            // Few characters are excluded.
            _ => ('x'..='z').chain('0'..=char::MAX).find(both),
        }
    }
}

/// All topics of one rule: by state, what leads where. The last state is the end.
struct Automaton(Vec<Vec<(Class, usize)>>);

impl Automaton {
    fn of(rule: &ChannelRule) -> Self {
        let mut automaton = Self(vec![Vec::new()]);
        let captures: Vec<_> = rule.pattern.captures().collect();
        for (piece, end) in rule.name.with_ends() {
            match piece {
                Piece::Text(text) => automaton.one_of(std::slice::from_ref(text)),
                Piece::Capture(index) if captures[*index].choices.is_empty() => {
                    automaton.some_of(Class::Free(end));
                }
                Piece::Capture(index) => automaton.one_of(&captures[*index].choices),
                Piece::Context(_) => automaton.some_of(Class::Context),
            }
        }
        automaton
    }

    fn add(&mut self) -> usize {
        self.0.push(Vec::new());
        self.0.len() - 1
    }

    /// One or more of a class.
    fn some_of(&mut self, class: Class) {
        let from = self.0.len() - 1;
        let to = self.add();
        self.0[from].push((class, to));
        self.0[to].push((class, to));
    }

    /// One of these texts, none of which is empty.
    fn one_of(&mut self, texts: &[Box<str>]) {
        let from = self.0.len() - 1;
        let mut ends = Vec::new();
        for text in texts {
            let mut at = from;
            let mut characters = text.chars().peekable();
            while let Some(character) = characters.next() {
                if characters.peek().is_none() {
                    ends.push((at, Class::This(character)));
                    break;
                }
                let next = self.add();
                self.0[at].push((Class::This(character), next));
                at = next;
            }
        }
        let end = self.add();
        ends.into_iter().for_each(|(at, class)| self.0[at].push((class, end)));
    }

    /// A topic of both.
    fn common(&self, other: &Self, ends: &[char]) -> Option<String> {
        let end = (self.0.len() - 1, other.0.len() - 1);
        // From where, and by which character, each pair of states was reached.
        let mut reached = BTreeMap::new();
        let mut open = vec![(0, 0)];
        while let Some(pair) = open.pop() {
            if pair == end {
                return Some(trace(&reached, end));
            }
            for &(class, to) in &self.0[pair.0] {
                for &(others, others_to) in &other.0[pair.1] {
                    let next = (to, others_to);
                    if reached.contains_key(&next) {
                        continue;
                    }
                    if let Some(character) = class.common(others, ends) {
                        reached.insert(next, (pair, character));
                        open.push(next);
                    }
                }
            }
        }
        None
    }
}

type Pair = (usize, usize);

fn trace(reached: &BTreeMap<Pair, (Pair, char)>, end: Pair) -> String {
    let mut characters = Vec::new();
    let mut at = end;
    while let Some((before, character)) = reached.get(&at) {
        characters.push(*character);
        at = *before;
    }
    characters.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rules: &[(&str, &str, bool)]) -> Vec<(usize, usize, String)> {
        let rule = |(pattern, channel, auth): &(&str, &str, bool)| {
            ChannelRule::new(pattern, channel, *auth).expect("a rule")
        };
        let rules: Vec<ChannelRule> = rules.iter().map(rule).collect();
        overlaps(&rules).into_iter().map(|found| (found.guarded, found.other, found.topic)).collect()
    }

    #[test]
    fn rules_of_their_own_kind_share_nothing() {
        let none: [(usize, usize, String); 0] = [];
        assert_eq!(
            found(&[
                ("@user", "user:{ctx.uid}", true),
                ("me", "user:{ctx.uid}", true),
                ("{video}@video", "video:{video}", false),
                ("@{kind:balance|order|position|account}", "ex:{ctx.uid}@{kind}", true),
                ("{symbol}@{kind:depth|trades|markprice|ticker|kline}", "ex:{symbol}@{kind}", false),
                ("@team", "team:{ctx.team}", false),
                ("{room}@team", "team:{ctx.team}:{room}", false),
                ("{room}@rooms", "team:{ctx.team}:{room}:all", false),
                ("@news", "news:members", true),
                ("@vip", "news:members", true),
            ]),
            none
        );
    }

    #[test]
    fn what_a_capture_can_spell_is_found() {
        // Where the other one is for some alone as well, it is found from its side too.
        let one = |rules: &[(&str, &str, bool)]| found(rules).swap_remove(0);
        let balance = ("@balance", "ex:{ctx.uid}:balance", true);
        for (other, topic) in [
            (("{symbol}@depth", "ex:{symbol}", false), "ex:x:balance"),
            (("{a}-{b}@depth", "ex:{a}:{b}", false), "ex:x:balance"),
            (("{x}@all", "{x}", false), "ex:x:balance"),
            (("{a}@{kind:depth|balance}", "ex:{a}:{kind}", false), "ex:x:balance"),
            // Somebody else's name for what is one user's.
            (("{a}@mine", "ex:{ctx.team}:{a}", true), "ex:x:balance"),
        ] {
            assert_eq!(one(&[balance, other]), (0, 1, topic.to_owned()), "{other:?}");
        }
        // It needs no context, but a login.
        let members = ("@members", "news:members", true);
        assert_eq!(one(&[("{x}@news", "news:{x}", false), members]), (1, 0, "news:members".to_owned()));
    }

    /// Each with the other's: found from both sides.
    #[test]
    fn two_contexts_are_two() {
        let found = found(&[("@user", "x:{ctx.uid}", true), ("@team", "x:{ctx.team}", true)]);
        assert_eq!(found, [(0, 1, "x:x".to_owned()), (1, 0, "x:x".to_owned())]);
    }
}
