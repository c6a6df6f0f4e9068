//! Cryptosign: the client signs what it is sent, by an Ed25519 key whose public half is kept here (WAMP, "Cryptosign-based
//! Authentication").
//!
//! What is signed are 32 random bytes, XORed with what the TLS connection alone has where the client wants that. So a signature is
//! good for one login; and for one connection, where whoever is in between passes the challenge on as it is. One who chooses the
//! challenge can undo the XOR, which is the specification's and cannot be mended here.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use fanwire_core::login::ChannelId;
use serde_json::{Map, Value, json};

use super::exchange::{Binding, text_of};
use super::users::Why;

/// A user's public key. Its text is `$ed25519$` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

/// A login that has been challenged.
pub(super) struct CryptosignStep {
    key: PublicKey,
    /// What has to be signed.
    message: [u8; 32],
}

const PREFIX: &str = "$ed25519$";

impl PublicKey {
    /// From 64 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// In words: they are no such digits, or no key.
    pub fn from_hex(text: &str) -> Result<Self, String> {
        let bytes = unhex::<32>(text).ok_or("a public key is 64 hexadecimal digits")?;
        // A weak key has signatures that anybody can make.
        let key = VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak());
        key.map(|_| Self(bytes)).ok_or_else(|| "these digits are no Ed25519 public key".into())
    }

    /// A new pair made of random bytes: the public half, and the private one in hexadecimal digits, as clients take it.
    pub fn new_pair(random: [u8; 32]) -> (Self, String) {
        let private = SigningKey::from_bytes(&random);
        (Self(private.verifying_key().to_bytes()), hex(&random))
    }

    /// As [`from_hex`](Self::from_hex) takes it.
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// The key that the client says it has, by its `authextra`.
    pub(super) fn of_hello(hello: &Map<String, Value>) -> Result<Self, Why> {
        let text = text_of(hello, "pubkey")?.ok_or(Why::Malformed("authextra has no pubkey"))?;
        let wrong = Why::Malformed("the pubkey in authextra is no Ed25519 key of 64 hexadecimal digits");
        Self::from_hex(text).map_err(|_| wrong)
    }

    /// CHALLENGE's `Extra`, and what its answer is compared with.
    pub(super) fn challenge(
        self,
        hello: &Map<String, Value>,
        channel: Option<&ChannelId>,
        random: [u8; 32],
    ) -> Result<(Value, CryptosignStep), Why> {
        let binding = Binding::wanted(hello, channel)?;
        let mut message = random;
        if let Some(Binding(channel)) = &binding {
            message.iter_mut().zip(channel).for_each(|(byte, channel)| *byte ^= channel);
        }
        let extra = json!({ "challenge": hex(&random), "channel_binding": binding.map(|_| Binding::NAME) });
        Ok((extra, CryptosignStep { key: self, message }))
    }
}

impl CryptosignStep {
    /// Whose key it is.
    pub(super) fn key(&self) -> PublicKey {
        self.key
    }

    /// Whether `signed`, which is a signature and what it signs in hexadecimal digits, is of this login and by this key.
    pub(super) fn verify(&self, signed: &str) -> bool {
        let Some(bytes) = unhex::<96>(signed) else { return false };
        let (signature, message) = bytes.split_at(64);
        let signature = Signature::from_slice(signature).expect("64 bytes");
        let key = VerifyingKey::from_bytes(&self.key.0).expect("it was checked");
        // Strictly: several signatures of one message by one key are one too many.
        message == self.message && key.verify_strict(message, &signature).is_ok()
    }
}

/// Lower-case digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut bytes = [0; N];
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// The same where any length will do.
pub(super) fn unhex_all(text: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| unhex::<1>(std::str::from_utf8(pair).ok()?).map(|[byte]| byte);
    text.as_bytes().chunks(2).map(byte).collect()
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::from_hex(text.strip_prefix(PREFIX).ok_or("it is no public key for cryptosign")?)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::Signer;

    /// WAMP, "Cryptosign-based Authentication", test vectors: channel, private key, challenge, answer.
    const VECTORS: [(Option<&str>, &str, &str, &str); 6] = [
        (
            None,
            "4d57d97a68f555696620a6d849c0ce582568518d729eb753dc7c732de2804510",
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "b32675b221f08593213737bef8240e7c15228b07028e19595294678c90d11c0cae80a357331bfc5cc9fb71081464e6e75013517c2cf067ad566a6b7b728e5d03ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        ),
        (
            None,
            "d511fe78e23934b3dadb52fcd022974b80bd92bccc7c5cf404e46cc0a8a2f5cd",
            "b26c1f87c13fc1da14997f1b5a71995dff8fbe0a62fae8473c7bdbd05bfb607d",
            "d4209ad10d5aff6bfbc009d7e924795de138a63515efc7afc6b01b7fe5201372190374886a70207b042294af5bd64ce725cd8dceb344e6d11c09d1aaaf4d660fb26c1f87c13fc1da14997f1b5a71995dff8fbe0a62fae8473c7bdbd05bfb607d",
        ),
        (
            None,
            "6e1fde9cf9e2359a87420b65a87dc0c66136e66945196ba2475990d8a0c3a25b",
            "b05e6b8ad4d69abf74aa3be3c0ee40ae07d66e1895b9ab09285a2f1192d562d2",
            "7beb282184baadd08f166f16dd683b39cab53816ed81e6955def951cb2ddad1ec184e206746fd82bda075af03711d3d5658fc84a76196b0fa8d1ebc92ef9f30bb05e6b8ad4d69abf74aa3be3c0ee40ae07d66e1895b9ab09285a2f1192d562d2",
        ),
        (
            Some("62e935ae755f3d48f80d4d59f6121358c435722a67e859cc0caa8b539027f2ff"),
            "4d57d97a68f555696620a6d849c0ce582568518d729eb753dc7c732de2804510",
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "9b6f41540c9b95b4b7b281c3042fa9c54cef43c842d62ea3fd6030fcb66e70b3e80d49d44c29d1635da9348d02ec93f3ed1ef227dfb59a07b580095c2b82f80f9d16ca518aa0c2b707f2b2a609edeca73bca8dd59817a633f35574ac6fd80d00",
        ),
        (
            Some("62e935ae755f3d48f80d4d59f6121358c435722a67e859cc0caa8b539027f2ff"),
            "d511fe78e23934b3dadb52fcd022974b80bd92bccc7c5cf404e46cc0a8a2f5cd",
            "b26c1f87c13fc1da14997f1b5a71995dff8fbe0a62fae8473c7bdbd05bfb607d",
            "305aaa3ac25e98f651427688b3fc43fe7d8a68a7ec1d7d61c61517c519bd4a427c3015599d83ca28b4c652333920223844ef0725eb5dc2febfd6af7677b73f01d0852a29b460fc92ec943242ac638a053bbacc200512b18b30d15083cbdc9282",
        ),
        (
            Some("62e935ae755f3d48f80d4d59f6121358c435722a67e859cc0caa8b539027f2ff"),
            "6e1fde9cf9e2359a87420b65a87dc0c66136e66945196ba2475990d8a0c3a25b",
            "b05e6b8ad4d69abf74aa3be3c0ee40ae07d66e1895b9ab09285a2f1192d562d2",
            "ee3c7644fd8070532bc1fde3d70d742267da545d8c8f03e63bda63f1ad4214f4d2c4bfdb4eb9526def42deeb7e31602a6ff99eba893e0a4ad4d45892ca75e608d2b75e24a189a7f78ca776ba36fc53f6c3e31c32f251f2c524f0a44202f2902d",
        ),
    ];

    #[test]
    fn the_vectors_of_the_specification_are_verified() {
        for (channel, private, challenge, answer) in VECTORS {
            let private = SigningKey::from_bytes(&unhex(private).expect("hex"));
            let key = PublicKey(private.verifying_key().to_bytes());
            let channel: Option<ChannelId> = channel.map(|channel| unhex(channel).expect("hex"));
            let hello = json!({ "channel_binding": channel.map(|_| "tls-exporter") });
            let hello = hello.as_object().expect("an object");
            let random = unhex(challenge).expect("hex");
            let (extra, step) = key.challenge(hello, channel.as_ref(), random).expect("well formed");
            assert_eq!(extra["challenge"], challenge);
            assert!(step.verify(answer));
            assert!(step.verify(&answer.to_uppercase()));
            let signature = hex(&private.sign(&step.message).to_bytes());
            assert_eq!(answer, signature + &hex(&step.message));
            let other = format!("0{}", &answer[1..]);
            for wrong in
                ["", &answer[..128], &answer[2..], &format!("{answer}00"), &answer.replace('a', "g"), &other]
            {
                assert!(!step.verify(wrong) || wrong == answer, "{wrong}");
            }
            // An answer to another challenge.
            let (_, later) = key.challenge(hello, channel.as_ref(), [1; 32]).expect("well formed");
            assert!(!later.verify(answer));
        }
    }

    #[test]
    fn a_key_is_read_as_written_and_a_weak_one_not_at_all() {
        let key = PublicKey(SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes());
        assert_eq!(key.to_string().parse(), Ok(key));
        let weak = format!("01{}", "0".repeat(62));
        for (text, words) in [
            ("abc", "no public key"),
            ("$ed25519$", "64 hexadecimal"),
            ("$ed25519$zz", "64 hexadecimal"),
            (&format!("$ed25519${}", "é".repeat(32)), "64 hexadecimal"),
            (&format!("$ed25519${weak}"), "no Ed25519"),
        ] {
            let error = text.parse::<PublicKey>().expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
