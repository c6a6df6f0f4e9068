//! RESP: the same commands however the bytes are cut, what is too much, and patterns beside a naive matcher.

use bytes::BytesMut;
use fanwire_codec::resp::{
    CommandLimits, GLOB_BYTES_MAX, Glob, RespError, Version, read_command, write_bulk, write_error,
    write_integer, write_map_head, write_message, write_null, write_pattern_message, write_simple,
    write_subscription,
};
use proptest::prelude::*;

const LIMITS: CommandLimits =
    CommandLimits { words_max: 16, word_bytes_max: 4_096, command_bytes_max: 8_192 };

type Outcome = Result<Vec<Vec<Vec<u8>>>, RespError>;

/// All commands of these bytes, received in pieces of these sizes and then the rest.
fn commands(bytes: &[u8], sizes: &[usize]) -> Outcome {
    let (mut buffer, mut rest, mut words, mut commands) = (Vec::new(), bytes, Vec::new(), Vec::new());
    for size in sizes.iter().copied().chain([usize::MAX]) {
        let (piece, left) = rest.split_at(size.min(rest.len()));
        rest = left;
        buffer.extend_from_slice(piece);
        while let Some(used) = read_command(&buffer, &LIMITS, &mut words)? {
            commands.push(words.iter().map(|word| buffer[word.clone()].to_vec()).collect());
            buffer.drain(..used);
        }
    }
    Ok(commands)
}

fn array(words: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A command with the bytes that say it.
fn command() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<u8>)> {
    let word = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..30),
        1 => prop::sample::select(vec![b"\r\n".to_vec(), b"*1\r\n$4\r\nPING\r\n".to_vec(), vec![b'x'; 3_000]]),
    ];
    let inline = prop::collection::vec("[!-)+-~][!-~]{0,9}", 1..6);
    prop_oneof![
        3 => prop::collection::vec(word, 1..4)
            .prop_filter("fits", |words| words.iter().map(|word| word.len() + 16).sum::<usize>() < 8_000)
            .prop_map(|words| { let bytes = array(&words); (words, bytes) }),
        1 => (inline, any::<bool>()).prop_map(|(words, both)| {
            let line = words.join(" ") + if both { "\r\n" } else { "\n" };
            (words.into_iter().map(String::into_bytes).collect(), line.into_bytes())
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commands_are_the_same_however_they_are_cut(
        said in prop::collection::vec(command(), 0..6),
        sizes in prop::collection::vec(0..40_usize, 0..200),
    ) {
        let bytes: Vec<u8> = said.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let expected: Vec<_> = said.into_iter().map(|(words, _)| words).collect();
        prop_assert_eq!(commands(&bytes, &sizes), Ok(expected));
    }

    #[test]
    fn whatever_comes_ends_the_same_way_however_it_is_cut(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "[*$0-9\r\n-]{0,40}".prop_map(String::into_bytes),
            (command(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|((_, mut bytes), at, byte)| {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                bytes
            }),
        ],
        sizes in prop::collection::vec(0..9_usize, 0..100),
    ) {
        let whole = commands(&bytes, &[]);
        prop_assert_eq!(commands(&bytes, &sizes).is_ok(), whole.is_ok());
        prop_assert_eq!(commands(&bytes, &sizes), whole);
    }

    #[test]
    fn a_glob_is_compared_as_a_naive_matcher_does(
        pattern in "[ab*?\\[\\]\\\\^-]{0,12}",
        name in "[ab\\[\\]^*-]{0,12}",
    ) {
        let glob = Glob::new(pattern.as_bytes()).expect("short");
        let matches = glob.matches(name.as_bytes());
        prop_assert_eq!(matches, naive(pattern.as_bytes(), name.as_bytes()), "{} {}", pattern, name);
        prop_assert!(!matches || name.as_bytes().starts_with(&glob.literal_prefix()));
    }
}

/// By trying everything.
fn naive(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len()).any(|taken| naive(rest, &name[taken..])),
        [b'?', rest @ ..] => name.split_first().is_some_and(|(_, name)| naive(rest, name)),
        [b'\\', byte, rest @ ..] => {
            name.split_first().is_some_and(|(first, name)| first == byte && naive(rest, name))
        }
        [b'[', rest @ ..] => {
            let Some((first, name)) = name.split_first() else { return false };
            let (negated, mut rest) = match rest {
                [b'^', rest @ ..] => (true, rest),
                rest => (false, rest),
            };
            let mut found = false;
            rest = loop {
                match rest {
                    [] => break rest,
                    [b']', rest @ ..] => break rest,
                    [b'\\', byte, behind @ ..] => {
                        found |= byte == first;
                        rest = behind;
                    }
                    [from, b'-', to, behind @ ..] if *from != b'\\' => {
                        found |= (*from.min(to)..=*from.max(to)).contains(first);
                        rest = behind;
                    }
                    [byte, behind @ ..] => {
                        found |= byte == first;
                        rest = behind;
                    }
                }
            };
            found != negated && naive(rest, name)
        }
        [byte, rest @ ..] => {
            name.split_first().is_some_and(|(first, name)| first == byte && naive(rest, name))
        }
    }
}

#[test]
fn what_is_no_command_is_told_as_redis_tells_it() {
    for (bytes, error) in [
        ("*x\r\n", "Protocol error: invalid multibulk length"),
        ("*17\r\n", "Protocol error: invalid multibulk length"),
        ("*99999999999999\r\n", "Protocol error: invalid multibulk length"),
        ("*1\r\nPING\r\n", "Protocol error: expected '$', got 'P'"),
        ("*1\r\n$x\r\n", "Protocol error: invalid bulk length"),
        ("*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
        ("*1\r\n$4097\r\n", "Protocol error: invalid bulk length"),
        ("*1\r\n$4\r\nPINGPONG", "Protocol error: expected a line end"),
        ("*1\rx", "Protocol error: expected a line end"),
    ] {
        let error_of = commands(bytes.as_bytes(), &[]).expect_err(bytes).to_string();
        assert_eq!(error_of, error, "{bytes:?}");
    }
    let long = "x".repeat(9_000);
    assert_eq!(commands(long.as_bytes(), &[]), Err(RespError::LineTooLong));
    let words = vec![vec![b'x'; 4_000]; 3];
    assert_eq!(commands(&array(&words), &[]), Err(RespError::TooLong));
}

#[test]
fn nothing_is_no_command_and_no_error() {
    for bytes in ["*0\r\n", "*-1\r\n", "\r\n", "\n", "  \r\n"] {
        assert_eq!(commands(bytes.as_bytes(), &[]), Ok(vec![vec![]]), "{bytes:?}");
    }
}

#[test]
fn replies_are_written_in_both_versions() {
    let written = |write: &dyn Fn(&mut BytesMut, Version)| {
        [Version::Resp2, Version::Resp3].map(|version| {
            let mut out = BytesMut::new();
            write(&mut out, version);
            String::from_utf8(out.to_vec()).expect("text")
        })
    };
    let both = |text: &str| [text.to_owned(), text.to_owned()];
    assert_eq!(written(&|out, _| write_simple(out, "OK")), both("+OK\r\n"));
    assert_eq!(written(&|out, _| write_error(out, "ERR a\r\nb")), both("-ERR a  b\r\n"));
    assert_eq!(written(&|out, _| write_integer(out, 0)), both(":0\r\n"));
    assert_eq!(written(&|out, _| write_integer(out, u64::MAX)), both(":18446744073709551615\r\n"));
    assert_eq!(written(&|out, _| write_bulk(out, b"")), both("$0\r\n\r\n"));
    assert_eq!(written(&write_null), ["$-1\r\n", "_\r\n"]);
    assert_eq!(written(&|out, version| write_map_head(out, version, 2)), ["*4\r\n", "%2\r\n"]);
    let message = "3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n";
    assert_eq!(
        written(&|out, version| write_message(out, version, b"c", b"hi")),
        [format!("*{message}"), format!(">{message}")]
    );
    let message = "4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$1\r\nc\r\n$2\r\nhi\r\n";
    assert_eq!(
        written(&|out, version| write_pattern_message(out, version, b"c*", b"c", b"hi")),
        [format!("*{message}"), format!(">{message}")]
    );
    assert_eq!(
        written(&|out, version| write_subscription(out, version, "unsubscribe", None, 0)),
        ["*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n"]
    );
}

#[test]
fn a_glob_is_bounded_in_length_and_in_time() {
    assert!(Glob::new(&[b'*'; GLOB_BYTES_MAX + 1]).is_err());
    let pattern = "a*".repeat(GLOB_BYTES_MAX / 2);
    let name = "a".repeat(100_000) + "b";
    // Exponential for who goes back to each star.
    assert!(!Glob::new((pattern + "c").as_bytes()).expect("short enough").matches(name.as_bytes()));
}
