use super::*;
use crate::calendar;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const OTHER: &[u8] = b"another-secret-of-some-32-bytes-";

/// Base64 without padding, as JWK has it.
fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn tokens(change: impl FnOnce(&mut TokenConfig)) -> Tokens {
    let set = json!({"keys": [{"kty": "oct", "kid": "one", "alg": "HS256", "k": base64url(SECRET)}]});
    let algorithms = vec![Algorithm::HS256, Algorithm::HS384];
    let keys = KeySet::parse(&set.to_string(), &algorithms).expect("a key set");
    let mut config = TokenConfig {
        name: "test".to_owned(),
        source: KeySource::File("keys".into(), keys),
        algorithms,
        issuer: Some("https://id".to_owned()),
        audience: vec!["shop".to_owned()],
        authid_claim: "sub".to_owned(),
        role_claim: Some("roles".to_owned()),
        role: None,
        roles: HashMap::from([("member".to_owned(), RoleId::new(3))]),
        leeway: Duration::from_secs(5),
        ends_session: true,
        refresh: Duration::from_secs(600),
    };
    change(&mut config);
    Tokens::new(config)
}

fn now() -> u64 {
    calendar::since_1970().as_secs()
}

fn claims() -> Value {
    json!({"iss": "https://id", "aud": "shop", "sub": "ann", "roles": ["x", "member"], "exp": now() + 100})
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn sign(claims: &Value, kid: Option<&str>, algorithm: Algorithm, secret: &[u8]) -> String {
    let header = Header { kid: kid.map(Into::into), ..Header::new(algorithm) };
    encode(&header, claims, &EncodingKey::from_secret(secret)).expect("a token")
}

fn good(claims: &Value) -> String {
    sign(claims, Some("one"), Algorithm::HS256, SECRET)
}

#[test]
fn a_good_token_says_who_it_is_and_how_long() {
    let tokens = tokens(|_| {});
    let token = good(&claims());
    assert!(is_token(&token));
    for authid in [None, Some("ann")] {
        let grant = tokens.verify(&token, authid).expect("it is good");
        assert_eq!((grant.role, grant.authid.as_deref()), (Some(RoleId::new(3)), Some("ann")));
        let rest = grant.ends_after.expect("it ends").as_secs();
        assert!((100..=105).contains(&rest), "{rest}");
    }
    let nameless = sign(&claims(), None, Algorithm::HS256, SECRET);
    assert!(tokens.verify(&nameless, None).is_ok(), "without the key's name all are tried");
}

#[test]
fn what_is_wrong_with_a_token_is_told_only_if_it_is_signed() {
    let tokens = tokens(|_| {});
    for (claims, words) in [
        (with("exp", json!(now() - 100)), "has expired"),
        (with("nbf", json!(now() + 100)), "not good yet"),
        (with("iss", json!("https://other")), "another issuer"),
        (with("aud", json!("other")), "another audience"),
        (with("aud", Value::Null), "lacks a claim"),
        (with("exp", json!("soon")), "lacks a claim"),
        (with("sub", json!("bob")), "another user's"),
        (with("sub", json!("")), "whose it is"),
        (with("sub", json!(7)), "whose it is"),
        (with("sub", json!("anonymous-1")), "whose it is"),
        (with("roles", json!(["unknown"])), "no role"),
        (with("roles", json!(1)), "no role"),
    ] {
        match tokens.verify(&good(&claims), Some("ann")) {
            Err(Why::Token(told)) => assert!(told.contains(words), "{claims}: {told}"),
            other => panic!("{claims}: {other:?}"),
        }
        let forged = sign(&claims, Some("one"), Algorithm::HS256, OTHER);
        assert_eq!(tokens.verify(&forged, Some("ann")), Err(Why::WrongSecret), "{claims}");
    }
}

#[test]
fn the_token_does_not_choose_the_algorithm() {
    let tokens = tokens(|_| {});
    // The key is for HS256 alone, whatever the realm allows, and "none" is no algorithm at all.
    let other = sign(&claims(), Some("one"), Algorithm::HS384, SECRET);
    assert_eq!(tokens.verify(&other, None), Err(Why::UnknownKey));
    let body = base64url(claims().to_string().as_bytes());
    let unsigned = format!("{}.{body}.", base64url(br#"{"alg":"none","kid":"one"}"#));
    assert_eq!(tokens.verify(&unsigned, None), Err(Why::WrongSecret));
    let stranger = sign(&claims(), Some("two"), Algorithm::HS256, SECRET);
    assert_eq!(tokens.verify(&stranger, None), Err(Why::UnknownKey));
    for text in ["eyJ..", "eyJ.a.b", "eyJhbGciOiJIUzI1NiJ9.e30", ""] {
        assert!(tokens.verify(text, None).is_err(), "{text}");
    }
}

#[test]
fn key_sets_leave_out_what_cannot_be_used() {
    let key = |more: Value| {
        let mut key = json!({"kty": "oct", "kid": "one", "k": base64url(SECRET)});
        more.as_object().expect("an object").iter().for_each(|(name, value)| key[name] = value.clone());
        json!({ "keys": [key] }).to_string()
    };
    let read = |text: &str| KeySet::parse(text, &[Algorithm::HS256, Algorithm::EdDSA]);
    assert_eq!(read(&key(json!({}))).expect("a key").0[0].algorithms, [Algorithm::HS256]);
    for (text, words) in [
        ("", "no JSON"),
        ("{}", "no list"),
        (r#"{"keys":[]}"#, "none of its keys"),
        (&key(json!({"alg": "HS512"})), "none of its keys"),
        (&key(json!({"use": "enc"})), "none of its keys"),
        (&key(json!({"alg": "RS256"})), "none of its keys"),
        (&key(json!({"k": base64url(b"short")})), "none of its keys"),
        (&key(json!({"kty": "other"})), "none of its keys"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(words), "{text}: {error}");
    }
    let many = json!({"keys": vec![json!({}); 101]}).to_string();
    assert!(read(&many).expect_err("too many").contains("101 keys"));
    assert!(!format!("{:?}", read(&key(json!({})))).contains(&base64url(SECRET)), "it is shown");
}
