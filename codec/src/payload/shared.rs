//! One payload for receivers of all serializers.

use std::sync::OnceLock;

use super::{OwnedPayload, TranscodeError};
use crate::wamp2::{Payload, Serializer};

/// A payload with its translations, each made when first asked for, and then shared.
#[derive(Debug)]
pub struct SharedPayload {
    original: OwnedPayload,
    /// By [`Serializer::index`]; that of the original stays empty. Boxed, because most publications need none.
    translations: [OnceLock<Box<Result<OwnedPayload, TranscodeError>>>; Serializer::COUNT],
}

impl SharedPayload {
    /// Takes the payload as it was sent.
    pub fn new(original: OwnedPayload) -> Self {
        Self { original, translations: Default::default() }
    }

    /// The payload as it was sent.
    pub fn original(&self) -> &OwnedPayload {
        &self.original
    }

    /// Its arguments, as they were sent.
    pub fn view(&self) -> Payload<'_> {
        self.original.view()
    }

    /// The payload in `serializer`. The same error comes each time, at no cost after the first.
    pub fn get(&self, serializer: Serializer) -> Result<&OwnedPayload, TranscodeError> {
        if serializer == self.original.serializer() {
            return Ok(&self.original);
        }
        let slot = &self.translations[serializer.index()];
        if slot.get().is_none() {
            // Made before the slot is taken: two threads may both make it, but none ever waits for the other, which may
            // have lost its CPU. The later one's is dropped.
            let _ = slot.set(Box::new(self.original.transcode(serializer)));
        }
        let translation = slot.get().expect("it was empty, and then somebody filled it");
        translation.as_ref().as_ref().map_err(|error| *error)
    }
}

impl From<OwnedPayload> for SharedPayload {
    fn from(original: OwnedPayload) -> Self {
        Self::new(original)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translation_is_made_once() {
        let original = OwnedPayload::checked(Serializer::Json, Some(b"[1]"), Some(b"{\"a\":2}")).unwrap();
        let shared = SharedPayload::new(original);
        let first = shared.get(Serializer::MsgPack).unwrap();
        assert_eq!(
            (first.view().args, first.view().kwargs),
            (Some(&b"\x91\x01"[..]), Some(&b"\x81\xa1a\x02"[..]))
        );
        assert!(std::ptr::eq(first, shared.get(Serializer::MsgPack).unwrap()));
        assert!(std::ptr::eq(shared.get(Serializer::Json).unwrap(), shared.original()));
    }

    #[test]
    fn a_failed_translation_leaves_the_original() {
        let original =
            OwnedPayload::checked(Serializer::MsgPack, Some(b"\x91\xca\x7f\x80\0\0"), None).unwrap();
        let shared = SharedPayload::from(original);
        assert_eq!(shared.get(Serializer::Json).unwrap_err(), TranscodeError::NotFinite);
        assert_eq!(shared.get(Serializer::Json).unwrap_err(), TranscodeError::NotFinite);
        assert!(shared.get(Serializer::MsgPack).is_ok());
    }

    #[test]
    fn it_crosses_threads() {
        fn crosses<T: Send + Sync>() {}
        crosses::<SharedPayload>();
    }
}
