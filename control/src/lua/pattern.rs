//! Lua's patterns, matched in steps that are counted.
//!
//! Lua's own matcher is one instruction to the budget, however long it takes, and what a client sends may make that hours: each item
//! that repeats may try all lengths again for each length of the one before. Here whoever asks says how many steps there may be.
//!
//! What a pattern means is in the manual of Lua 5.4, "Patterns".

/// Parts of a match that one pattern may capture.
const CAPTURES_MAX: usize = 32;
/// Items that wait for the rest of the pattern, each on the stack.
const DEPTH_MAX: u32 = 200;
/// Steps between two looks at the budget.
const STRIDE: u32 = 4_096;

/// What a part in parentheses has matched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Capture {
    /// It begins here and has not ended.
    Open(usize),
    Span(usize, usize),
    /// `()`: the place alone.
    Place(usize),
}

/// Why there is neither a match nor none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    Malformed(String),
    /// There are no steps left.
    Spent,
}

fn malformed<T>(words: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Malformed(words.into()))
}

/// Matches one pattern to places of one text.
pub(super) struct Matcher<'a> {
    text: &'a [u8],
    pattern: &'a [u8],
    pub(super) captures: Vec<Capture>,
    depth: u32,
    steps: u32,
    /// Told how many steps were made since it was last asked; false: no more.
    budget: &'a dyn Fn(u32) -> bool,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(text: &'a [u8], pattern: &'a [u8], budget: &'a dyn Fn(u32) -> bool) -> Self {
        Self { text, pattern, captures: Vec::new(), depth: 0, steps: 0, budget }
    }

    pub(super) fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The end of a match that begins exactly here.
    pub(super) fn match_at(&mut self, at: usize) -> Result<Option<usize>, Fault> {
        self.captures.clear();
        self.depth = 0;
        self.items(at, 0)
    }

    /// The first match from here on.
    pub(super) fn search(&mut self, from: usize) -> Result<Option<(usize, usize)>, Fault> {
        for at in from..=self.text.len() {
            if let Some(end) = self.match_at(at)? {
                return Ok(Some((at, end)));
            }
        }
        Ok(None)
    }

    /// Pays for what was done since it last paid.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        let steps = std::mem::take(&mut self.steps);
        if (self.budget)(steps) { Ok(()) } else { Err(Fault::Spent) }
    }

    fn step(&mut self) -> Result<(), Fault> {
        self.steps += 1;
        if self.steps < STRIDE { Ok(()) } else { self.settle() }
    }

    /// Matches the pattern from `item` on to the text from `at` on.
    fn items(&mut self, mut at: usize, mut item: usize) -> Result<Option<usize>, Fault> {
        loop {
            self.step()?;
            let Some(&head) = self.pattern.get(item) else { return Ok(Some(at)) };
            let next = self.pattern.get(item + 1).copied();
            let reached = match (head, next) {
                (b'(', Some(b')')) => return self.captured(Capture::Place(at), at, item + 2),
                (b'(', _) => return self.captured(Capture::Open(at), at, item + 1),
                (b')', _) => return self.closed(at, item + 1),
                (b'$', None) => return Ok((at == self.text.len()).then_some(at)),
                (b'%', Some(b'b')) => self.balanced(at, item + 2)?.map(|at| (at, item + 4)),
                (b'%', Some(b'f')) => self.frontier(at, item + 2)?.map(|item| (at, item)),
                (b'%', Some(digit)) if digit.is_ascii_digit() => {
                    self.repeated(at, digit)?.map(|at| (at, item + 2))
                }
                _ => {
                    let end = self.item_end(item)?;
                    match self.pattern.get(end) {
                        Some(b'?') => {
                            if self.fits(at, item)
                                && let Some(done) = self.nested(at + 1, end + 1)?
                            {
                                return Ok(Some(done));
                            }
                            Some((at, end + 1))
                        }
                        Some(b'*') => return self.longest(at, item, end, 0),
                        Some(b'+') => return self.longest(at, item, end, 1),
                        Some(b'-') => return self.shortest(at, item, end),
                        _ => self.fits(at, item).then_some((at + 1, end)),
                    }
                }
            };
            let Some(reached) = reached else { return Ok(None) };
            (at, item) = reached;
        }
    }

    /// The rest of the pattern, for somebody who may try something else after it.
    fn nested(&mut self, at: usize, item: usize) -> Result<Option<usize>, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return malformed("pattern too complex");
        }
        let done = self.items(at, item);
        self.depth -= 1;
        done
    }

    fn captured(&mut self, capture: Capture, at: usize, item: usize) -> Result<Option<usize>, Fault> {
        if self.captures.len() == CAPTURES_MAX {
            return malformed("too many captures");
        }
        let count = self.captures.len();
        self.captures.push(capture);
        let done = self.nested(at, item)?;
        if done.is_none() {
            self.captures.truncate(count);
        }
        Ok(done)
    }

    fn closed(&mut self, at: usize, item: usize) -> Result<Option<usize>, Fault> {
        let open = |capture: &Capture| matches!(capture, Capture::Open(_));
        let Some(place) = self.captures.iter().rposition(open) else {
            return malformed("invalid pattern capture");
        };
        let before = self.captures[place];
        if let Capture::Open(from) = before {
            self.captures[place] = Capture::Span(from, at);
        }
        let done = self.nested(at, item)?;
        if done.is_none() {
            self.captures[place] = before;
        }
        Ok(done)
    }

    /// As many as there are, and then fewer.
    fn longest(&mut self, at: usize, item: usize, end: usize, least: usize) -> Result<Option<usize>, Fault> {
        let mut count = 0;
        while self.fits(at + count, item) {
            self.step()?;
            count += 1;
        }
        loop {
            if count < least {
                return Ok(None);
            }
            if let Some(done) = self.nested(at + count, end + 1)? {
                return Ok(Some(done));
            }
            if count == 0 {
                return Ok(None);
            }
            count -= 1;
        }
    }

    /// None, and then more.
    fn shortest(&mut self, mut at: usize, item: usize, end: usize) -> Result<Option<usize>, Fault> {
        loop {
            if let Some(done) = self.nested(at, end + 1)? {
                return Ok(Some(done));
            }
            if !self.fits(at, item) {
                return Ok(None);
            }
            at += 1;
        }
    }

    /// `%bxy`: from one to the other that closes it.
    fn balanced(&mut self, at: usize, pair: usize) -> Result<Option<usize>, Fault> {
        let Some(&[open, close]) = self.pattern.get(pair..pair + 2) else {
            return malformed("malformed pattern (missing arguments to '%b')");
        };
        if self.text.get(at) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1;
        for place in at + 1..self.text.len() {
            self.step()?;
            let byte = self.text[place];
            if byte == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(place + 1));
                }
            } else if byte == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// `%f[set]`: between what is not in the set and what is.
    fn frontier(&mut self, at: usize, set: usize) -> Result<Option<usize>, Fault> {
        if self.pattern.get(set) != Some(&b'[') {
            return malformed("missing '[' after '%f' in pattern");
        }
        let end = self.item_end(set)?;
        // Beyond both ends there is a 0.
        let before = if at == 0 { 0 } else { self.text[at - 1] };
        let behind = self.text.get(at).copied().unwrap_or(0);
        Ok((!self.in_set(before, set) && self.in_set(behind, set)).then_some(end))
    }

    /// `%1`: the same as was captured.
    fn repeated(&mut self, at: usize, digit: u8) -> Result<Option<usize>, Fault> {
        let number = usize::from(digit - b'0');
        match number.checked_sub(1).and_then(|index| self.captures.get(index)) {
            None | Some(Capture::Open(_)) => malformed(format!("invalid capture index %{number}")),
            Some(Capture::Place(_)) => Ok(None),
            Some(&Capture::Span(from, to)) => {
                let found = self.text[at..].starts_with(&self.text[from..to]);
                self.steps += ((to - from) / 64) as u32;
                Ok(found.then_some(at + to - from))
            }
        }
    }

    /// Where the item ends that stands for one character: behind it there may be how often.
    fn item_end(&self, item: usize) -> Result<usize, Fault> {
        match self.pattern[item] {
            b'%' if item + 1 == self.pattern.len() => malformed("malformed pattern (ends with '%')"),
            b'%' => Ok(item + 2),
            b'[' => {
                let mut at = self.set_begin(item);
                // What stands first is in the set, even if it is what ends one.
                loop {
                    match self.pattern.get(at) {
                        None => return malformed("malformed pattern (missing ']')"),
                        Some(b'%') => at += 2,
                        Some(_) => at += 1,
                    }
                    if self.pattern.get(at) == Some(&b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(item + 1),
        }
    }

    /// The first of what is in the set.
    fn set_begin(&self, set: usize) -> usize {
        set + 1 + usize::from(self.pattern.get(set + 1) == Some(&b'^'))
    }

    /// Whether there is a character here that the item stands for.
    fn fits(&self, at: usize, item: usize) -> bool {
        let Some(&byte) = self.text.get(at) else { return false };
        match self.pattern[item] {
            b'.' => true,
            b'%' => is_of_class(byte, self.pattern[item + 1]),
            b'[' => self.in_set(byte, item),
            literal => literal == byte,
        }
    }

    /// Whether a set, whose end was found before, has this one.
    fn in_set(&self, byte: u8, set: usize) -> bool {
        let begin = self.set_begin(set);
        let is_negated = begin == set + 2;
        let mut at = begin;
        loop {
            let here = self.pattern[at];
            let has_it = if here == b'%' {
                at += 2;
                is_of_class(byte, self.pattern[at - 1])
            } else if self.pattern.get(at + 1) == Some(&b'-') && self.pattern.get(at + 2) != Some(&b']') {
                at += 3;
                (here..=self.pattern[at - 1]).contains(&byte)
            } else {
                at += 1;
                here == byte
            };
            if has_it {
                return !is_negated;
            }
            if self.pattern.get(at) == Some(&b']') {
                return is_negated;
            }
        }
    }
}

/// Whether it is one of `%class`; a capital letter stands for all others, and what is no letter for itself.
fn is_of_class(byte: u8, class: u8) -> bool {
    let is_it = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'g' => byte.is_ascii_graphic(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        // Not in the manual any more, and still there.
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is_it != class.is_ascii_uppercase()
}
