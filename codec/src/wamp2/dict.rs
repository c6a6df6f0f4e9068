//! Options and details dictionaries: keys walked once, values typed, duplicates refused.

use std::array;
use std::borrow::Cow;

use super::ID_MAX;
use super::error::ViolationKind;
use super::features::{Feature, FeatureSet};
use super::options::Roles;
use super::read::{Kind, Reader};
use crate::malformed::Malformed;

/// Keys in one dictionary of an envelope. WAMP defines fewer than 20 for any message; the bound keeps the search for
/// duplicates cheap without a hash table.
const KEYS_MAX: usize = 64;

/// Most dictionaries have fewer keys than this; for them duplicates are found while walking.
const KEYS_FEW: usize = 8;

/// Strings in one list of an envelope, such as `authmethods`.
const STRINGS_MAX: usize = 32;

/// A known key, or an element, with a wrong value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub subject: &'static str,
    pub expected: &'static str,
}

/// The value of the key that was just read. Each method reads exactly it. Null means that the key is not there; a wrong
/// type is remembered as a fault, the value is skipped, and the walk goes on.
pub(super) struct Values<'r, R> {
    reader: &'r mut R,
    fault: &'r mut Option<Fault>,
}

/// Walks the dictionary that comes next. `on_key` must read the value if, and only if, it returns true.
#[inline]
pub(super) fn walk_dict<'a, R: Reader<'a>>(
    reader: &mut R,
    fault: &mut Option<Fault>,
    mut on_key: impl FnMut(&mut Values<'_, R>, &str) -> Result<bool, ViolationKind>,
) -> Result<(), ViolationKind> {
    let start = reader.position();
    let mut items = reader.dict()?;
    let mut seen = [""; KEYS_FEW];
    let mut count = 0;
    let mut search_again = false;
    while let Some(key) = reader.next_key(&mut items)? {
        if count == KEYS_MAX {
            return Err(ViolationKind::TooManyKeys { keys_max: KEYS_MAX });
        }
        match &key {
            &Cow::Borrowed(plain) if count < KEYS_FEW => {
                if seen[..count].contains(&plain) {
                    return Err(ViolationKind::DuplicateKey);
                }
                seen[count] = plain;
            }
            // A key with escapes is not kept, and many keys have no room: look at all of them afterwards.
            _ => search_again = true,
        }
        count += 1;
        if !on_key(&mut Values { reader, fault }, &key)? {
            reader.skip()?;
        }
    }
    if search_again { search_duplicates(reader, start) } else { Ok(()) }
}

/// Walks a sound dictionary of at most [`KEYS_MAX`] keys once more, with room for all of them.
#[cold]
fn search_duplicates<'a, R: Reader<'a>>(reader: &mut R, start: usize) -> Result<(), ViolationKind> {
    let end = reader.position();
    reader.rewind(start);
    let mut items = reader.dict()?;
    let mut seen: [Cow<'a, str>; KEYS_MAX] = array::from_fn(|_| Cow::Borrowed(""));
    let mut count = 0;
    while let Some(key) = reader.next_key(&mut items)? {
        if seen[..count].contains(&key) {
            return Err(ViolationKind::DuplicateKey);
        }
        seen[count] = key;
        count += 1;
        reader.skip()?;
    }
    debug_assert_eq!(reader.position(), end, "the second walk ends where the first did");
    Ok(())
}

impl<'a, R: Reader<'a>> Values<'_, R> {
    /// A boolean (WAMP: integers must not be used instead).
    #[inline]
    pub(super) fn bool(&mut self, key: &'static str) -> Result<Option<bool>, ViolationKind> {
        match self.reader.kind()? {
            Kind::Bool => Ok(Some(self.reader.bool()?)),
            kind => self.wrong(kind, key, "true or false"),
        }
    }

    /// A string.
    pub(super) fn string(&mut self, key: &'static str) -> Result<Option<Cow<'a, str>>, ViolationKind> {
        match self.reader.kind()? {
            Kind::String => Ok(Some(self.reader.string()?)),
            kind => self.wrong(kind, key, "a string"),
        }
    }

    /// An id.
    pub(super) fn id(&mut self, key: &'static str) -> Result<Option<u64>, ViolationKind> {
        self.number(key, 1, "an integer from 1 to 2^53")
    }

    /// A non-negative integer.
    pub(super) fn integer(&mut self, key: &'static str) -> Result<Option<u64>, ViolationKind> {
        self.number(key, 0, "an integer from 0 to 2^53")
    }

    fn number(
        &mut self,
        key: &'static str,
        least: u64,
        expected: &'static str,
    ) -> Result<Option<u64>, ViolationKind> {
        match self.reader.kind()? {
            Kind::Number => {
                let number = self.reader.integer()?.filter(|number| (least..=ID_MAX).contains(number));
                if number.is_none() {
                    self.fault.get_or_insert(Fault { subject: key, expected });
                }
                Ok(number)
            }
            kind => self.wrong(kind, key, expected),
        }
    }

    /// A string out of a few.
    pub(super) fn choice<T>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        from_name: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ViolationKind> {
        match self.reader.kind()? {
            Kind::String => {
                let choice = from_name(&self.reader.string()?);
                if choice.is_none() {
                    self.fault.get_or_insert(Fault { subject: key, expected });
                }
                Ok(choice)
            }
            kind => self.wrong(kind, key, expected),
        }
    }

    /// A list of at most [`STRINGS_MAX`] strings.
    pub(super) fn strings(&mut self, key: &'static str) -> Result<Vec<Cow<'a, str>>, ViolationKind> {
        const EXPECTED: &str = "a list of at most 32 strings";
        let strings = self.list(key, EXPECTED, &mut STRINGS_MAX.clone(), Kind::String, |reader| {
            reader.string().map(Some)
        })?;
        Ok(strings.unwrap_or_default())
    }

    /// A list of strings that takes its entries from the `room` that several lists share.
    pub(super) fn names(
        &mut self,
        key: &'static str,
        room: &mut usize,
    ) -> Result<Option<Vec<Cow<'a, str>>>, ViolationKind> {
        const EXPECTED: &str = "a list of strings, with at most 65536 entries in all lists of receivers";
        self.list(key, EXPECTED, room, Kind::String, |reader| reader.string().map(Some))
    }

    /// A list of ids, likewise.
    pub(super) fn ids(
        &mut self,
        key: &'static str,
        room: &mut usize,
    ) -> Result<Option<Vec<u64>>, ViolationKind> {
        const EXPECTED: &str =
            "a list of integers from 1 to 2^53, with at most 65536 entries in all lists of receivers";
        self.list(key, EXPECTED, room, Kind::Number, |reader| {
            Ok(reader.integer()?.filter(|number| (1..=ID_MAX).contains(number)))
        })
    }

    /// A list of elements of one kind, of which `read` may refuse some. One element too many for `room` is a fault too.
    fn list<T>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        room: &mut usize,
        element: Kind,
        read: impl Fn(&mut R) -> Result<Option<T>, Malformed>,
    ) -> Result<Option<Vec<T>>, ViolationKind> {
        let kind = self.reader.kind()?;
        if kind != Kind::List {
            return self.wrong(kind, key, expected);
        }
        let mut values = Vec::new();
        let mut items = self.reader.list()?;
        while self.reader.next_element(&mut items)? {
            let mut value = None;
            if self.reader.kind()? != element || *room == 0 {
                self.reader.skip()?;
            } else {
                value = read(self.reader)?;
            }
            match value {
                Some(value) => {
                    *room -= 1;
                    values.push(value);
                }
                None => drop(self.fault.get_or_insert(Fault { subject: key, expected })),
            }
        }
        Ok(Some(values))
    }

    /// A dictionary, as its bytes.
    pub(super) fn raw_dict(&mut self, key: &'static str) -> Result<Option<&'a [u8]>, ViolationKind> {
        match self.reader.kind()? {
            Kind::Dict => Ok(Some(self.reader.skip()?)),
            kind => self.wrong(kind, key, "a dictionary"),
        }
    }

    /// `{"publisher": {"features": {"publisher_exclusion": true}}, …}`; unknown roles and features are skipped.
    pub(super) fn roles(&mut self) -> Result<Roles, ViolationKind> {
        let mut roles = Roles::default();
        self.dict("roles", |values, role| {
            let slot = match role {
                "publisher" => &mut roles.publisher,
                "subscriber" => &mut roles.subscriber,
                "caller" => &mut roles.caller,
                "callee" => &mut roles.callee,
                "broker" => &mut roles.broker,
                "dealer" => &mut roles.dealer,
                _ => return Ok(false),
            };
            *slot = Some(values.role()?);
            Ok(true)
        })?;
        Ok(roles)
    }

    fn role(&mut self) -> Result<FeatureSet, ViolationKind> {
        let mut features = FeatureSet::EMPTY;
        self.dict("roles", |values, key| {
            if key == "features" {
                values.dict("features", |values, name| {
                    let Some(feature) = Feature::from_name(name) else { return Ok(false) };
                    if values.bool(feature.name())? == Some(true) {
                        features.insert(feature);
                    }
                    Ok(true)
                })?;
            }
            Ok(key == "features")
        })?;
        Ok(features)
    }

    fn dict(
        &mut self,
        key: &'static str,
        on_key: impl FnMut(&mut Values<'_, R>, &str) -> Result<bool, ViolationKind>,
    ) -> Result<(), ViolationKind> {
        match self.reader.kind()? {
            Kind::Dict => walk_dict(self.reader, self.fault, on_key),
            kind => self.wrong::<()>(kind, key, "a dictionary").map(drop),
        }
    }

    /// Skips a value that is not of the expected type. Null is no fault: the key counts as not there.
    #[cold]
    fn wrong<T>(
        &mut self,
        kind: Kind,
        key: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, ViolationKind> {
        self.reader.skip()?;
        if kind != Kind::Absent {
            self.fault.get_or_insert(Fault { subject: key, expected });
        }
        Ok(None)
    }
}
