use super::*;

const CHEAP: Kdf = Kdf::Argon2id { memory_kib: 64, passes: 1 };

fn object(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

/// RFC 7677, section 3: user `user`, password `pencil`. WAMP signs just these messages.
#[test]
fn the_exchange_of_the_rfc_is_ours() {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64").try_into().expect("16 bytes");
    let keys = ScramKeys::of("pencil", Kdf::Pbkdf2 { rounds: 4096 }, salt).expect("a password");
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let step = ScramStep {
        dialect: Dialect::Standard,
        keys: keys.standard,
        nonce: nonce.to_owned(),
        binding: None,
        said: format!("n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
    };
    let extra = object(json!({"nonce": nonce, "channel_binding": null, "cbind_data": null}));
    let told = step.verify("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", &extra).expect("well formed");
    assert_eq!(told, Some(json!({"verifier": "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="})));
    let other = step.verify("eHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", &extra).expect("well formed");
    assert_eq!(other, None);
}

/// A login that has been challenged, with the proof that would be right.
fn challenged(hello: Value, channel: Option<&ChannelId>, bound: &[u8]) -> (ScramStep, String, String) {
    let keys = ScramKeys::of("pass\u{ad}word", CHEAP, [3; 16]).expect("a password");
    let (extra, step) =
        keys.challenge(Dialect::Standard, "a=b,c", &object(hello), channel, &[9; 18]).expect("well formed");
    let nonce = extra["nonce"].as_str().expect("a string").to_owned();
    let (salt, kdf) = (extra["salt"].as_str().expect("a string"), &extra["kdf"]);
    assert_eq!((kdf, &extra["memory"], &extra["iterations"]), (&json!("argon2id13"), &json!(64), &json!(1)));
    assert!(nonce.starts_with("AAAA") && nonce.len() == 28, "{nonce}");
    let bound = STANDARD.encode(bound);
    let messages = format!("n=a=3Db=2Cc,r=AAAA,r={nonce},s={salt},i=1,c={bound},r={nonce}");
    // Normalised: the soft hyphen is nothing.
    let (proof, _) = prove("password", CHEAP, salt, &messages).expect("it is cheap");
    (step, proof, nonce)
}

#[test]
fn who_knows_the_password_is_let_in_and_nobody_else() {
    let (step, right, nonce) = challenged(json!({"nonce": "AAAA"}), None, b"n,,");
    let extra = object(json!({ "nonce": nonce }));
    assert!(step.verify(&right, &extra).expect("well formed").is_some());
    for wrong in ["", "AAAA", &right[1..], "no base64", &STANDARD.encode([0; 32])] {
        assert_eq!(step.verify(wrong, &extra), Ok(None), "{wrong}");
    }
    let refused = |extra: Value| match step.verify(&right, &object(extra)) {
        Err(Why::Malformed(words)) => words,
        other => panic!("{other:?}"),
    };
    for (extra, words) in [
        (json!({}), "no nonce"),
        (json!({"nonce": null}), "no nonce"),
        (json!({"nonce": 7}), "another type"),
        (json!({"nonce": "AAAA"}), "another nonce"),
        (json!({"nonce": nonce, "channel_binding": "tls-exporter"}), "another channel_binding"),
        (json!({"nonce": nonce, "cbind_data": "AAAA"}), "without a channel_binding"),
    ] {
        let told = refused(extra.clone());
        assert!(told.contains(words), "{extra}: {told}");
    }
}

#[test]
fn a_login_can_be_bound_to_its_channel() {
    let channel = [5; 32];
    let hello = json!({"nonce": "AAAA", "channel_binding": "tls-exporter"});
    let bound = [b"p=tls-exporter,,".as_slice(), &channel].concat();
    let (step, right, nonce) = challenged(hello, Some(&channel), &bound);
    let said = |data: Option<[u8; 32]>| {
        let data = data.map(|data| STANDARD.encode(data));
        object(json!({"nonce": nonce, "channel_binding": "tls-exporter", "cbind_data": data}))
    };
    assert!(step.verify(&right, &said(Some(channel))).expect("well formed").is_some());
    assert!(matches!(step.verify(&right, &said(Some([6; 32]))), Err(Why::Malformed(_))));
    assert!(matches!(step.verify(&right, &said(None)), Err(Why::Malformed(_))));
}

#[test]
fn what_hello_lacks_is_told() {
    let keys = ScramKeys::decoy(CHEAP, &[1; 32], &[2; 32]);
    for (hello, channel, words) in [
        (json!({}), None, "no nonce"),
        (json!({"nonce": []}), None, "another type"),
        (json!({"nonce": ""}), None, "not base64"),
        (json!({"nonce": "a,b"}), None, "not base64"),
        (json!({"nonce": "A".repeat(257)}), None, "not base64"),
        (json!({"nonce": "AAAA", "channel_binding": "tls-unique"}), Some([1; 32]), "tls-unique"),
        (json!({"nonce": "AAAA", "channel_binding": "tls-exporter"}), None, "TLS 1.3"),
        (json!({"nonce": "AAAA", "channel_binding": 1}), None, "another type"),
    ] {
        let told =
            keys.challenge(Dialect::Standard, "ann", &object(hello.clone()), channel.as_ref(), &[0; 18]);
        let Err(Why::Malformed(told)) = told.map(|_| ()) else { panic!("{hello}") };
        assert!(told.contains(words), "{hello}: {told}");
    }
}

#[test]
fn keys_are_read_as_written_and_never_shown() {
    for kdf in [CHEAP, Kdf::Pbkdf2 { rounds: 4096 }] {
        let keys = ScramKeys::of("swordfish", kdf, [7; 16]).expect("a password");
        let text = keys.to_string();
        assert!(!text.contains(':'), "{text}");
        assert_eq!(text.parse::<ScramKeys>().as_ref(), Ok(&keys));
        assert_eq!(keys.autobahn.is_some(), kdf == CHEAP);
        assert_eq!(format!("{keys:?}"), "ScramKeys(…)");
    }
    assert!(ScramKeys::of("bell\u{7}", CHEAP, [7; 16]).is_err(), "control characters are no password's");
}

#[test]
fn what_are_no_keys_is_refused_in_words() {
    for (text, words) in [
        ("swordfish", "no keys for SCRAM"),
        ("$scram$", "no keys"),
        ("$scram$md5$AAAAAAAAAAA=$a$b", "neither argon2id nor pbkdf2"),
        ("$scram$pbkdf2,i=1$AAAAAAAAAAA=$a$b", "rounds"),
        ("$scram$argon2id,m=1,t=1$AAAAAAAAAAA=$a$b", "costs"),
        ("$scram$pbkdf2,i=4096$AA==$a$b", "salt"),
        ("$scram$pbkdf2,i=4096$AAAAAAAAAAA=$a$b", "32 bytes"),
        ("$scram$pbkdf2,i=4096$AAAAAAAAAAA=$a", "too few"),
    ] {
        let error = text.parse::<ScramKeys>().expect_err(text);
        assert!(error.contains(words), "{text}: {error}");
    }
}
