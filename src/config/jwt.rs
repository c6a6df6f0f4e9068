//! `[[realm.jwt]]`: whose tokens are good, with the keys of files.

use fanwire_control::login::jwt::{Algorithm, KeySet, KeySource};

use super::load::Origins;
use super::problem::{Problem, nearest};
use super::schema::{Config, Jwt, Realm};
use super::users::resolve;
use crate::users::plain;

/// One issuer whose texts were read.
#[derive(Clone, Debug)]
pub struct ReadJwt {
    /// Where the keys are, and those of a file.
    pub source: KeySource,
    /// What they may be used with.
    pub algorithms: Vec<Algorithm>,
}

/// Reads and checks the issuers of each realm, in the order of the realms.
pub fn gather(config: &Config, origins: &Origins) -> (Vec<Vec<ReadJwt>>, Vec<Problem>) {
    let mut problems = Vec::new();
    let of_realm = |(index, realm): (usize, &Realm)| {
        let issuer = |(number, jwt): (usize, &Jwt)| {
            let at = |part: &str| format!("realm.{index}.jwt.{number}.{part}");
            let mut refuse = |key: String, wrong: String, help: Vec<String>| {
                problems.push(Problem { place: origins.place(&key), key: Some(key), wrong, help });
            };
            read(realm, jwt, origins, &at, &mut refuse)
        };
        realm.jwt.iter().enumerate().filter_map(issuer).collect()
    };
    let realms = config.realm.iter().enumerate().map(of_realm).collect();
    (realms, problems)
}

fn read(
    realm: &Realm,
    jwt: &Jwt,
    origins: &Origins,
    at: &dyn Fn(&str) -> String,
    refuse: &mut dyn FnMut(String, String, Vec<String>),
) -> Option<ReadJwt> {
    let roles: Vec<&str> = realm.role.iter().map(|role| role.name.as_str()).collect();
    if let Some(role) = jwt.role.as_deref().filter(|role| !roles.contains(role)) {
        let near = nearest(role, &roles).map(|near| format!("did you mean {near}?"));
        let help = near.into_iter().chain([format!("roles of realm {:?}: {}", realm.name, roles.join(", "))]);
        refuse(at("role"), format!("the realm {:?} has no role {role:?}", realm.name), help.collect());
    }
    if jwt.role.is_none() && jwt.role_claim.is_none() {
        let help = vec!["name a role, or the claim that names it: role_claim".to_owned()];
        refuse(at("role"), "tokens would give no role".to_owned(), help);
    }
    let mut algorithms = Vec::new();
    for name in &jwt.algorithms {
        match name.parse() {
            Ok(algorithm) => algorithms.push(algorithm),
            Err(_) => refuse(at("algorithms"), format!("{name:?} is no algorithm"), vec![KNOWN.to_owned()]),
        }
    }
    if jwt.algorithms.is_empty() {
        refuse(at("algorithms"), "no algorithm is allowed".to_owned(), vec![KNOWN.to_owned()]);
    }
    if jwt.keys.contains("://") {
        return match jwt.keys.parse() {
            Ok(url) => Some(ReadJwt { source: KeySource::Url(url), algorithms }),
            Err(wrong) => {
                refuse(at("keys"), wrong, Vec::new());
                None
            }
        };
    }
    let path = resolve(&origins.place(&at("keys")), &jwt.keys);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("cannot read {}: {}", path.display(), plain(&error)));
    match text.and_then(|text| {
        KeySet::parse(&text, &algorithms).map_err(|wrong| format!("{}: {wrong}", path.display()))
    }) {
        Ok(keys) => Some(ReadJwt { source: KeySource::File(path, keys), algorithms }),
        Err(wrong) => {
            refuse(at("keys"), wrong, vec!["it is a JWK set: {\"keys\": [...]}".to_owned()]);
            None
        }
    }
}

const KNOWN: &str =
    "known: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, HS256, HS384, HS512";
