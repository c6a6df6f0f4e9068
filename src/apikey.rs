//! `fanwire apikey`: makes a key of the HTTP API.

use fanwire_control::api::keys::{KEY_BYTES, KeyHash, key_text};

use crate::cli::ApikeyArgs;
use crate::config::schema::ApiKey;

/// A key that nobody else has, and the table for the configuration.
pub fn apikey(args: &ApikeyArgs) -> (String, String) {
    let mut random = fanwire_io::random_source();
    let mut bytes = [0; KEY_BYTES];
    bytes.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&random().to_ne_bytes()));
    let key = key_text(bytes);
    let table = ApiKey {
        name: args.name.clone(),
        key_hash: KeyHash::of(&key).to_string(),
        realms: args.realm.clone(),
        role: args.role.clone(),
        allow: args.allow.clone(),
        addresses: args.address.iter().map(ToString::to_string).collect(),
    };
    let table = toml::to_string(&table).expect("it is made of strings and lists of them");
    (key, format!("[[http_api.key]]\n{table}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn the_table_has_the_hash_and_not_the_key() {
        let words = [
            "fanwire",
            "apikey",
            "shop",
            "--role",
            "backend",
            "--allow",
            "publish,read",
            "--address",
            "10.0.0.0/8",
        ];
        let Ok(Cli { command: Some(Command::Apikey(args)), .. }) = Cli::try_parse_from(words) else {
            panic!("it is right")
        };
        let (key, table) = apikey(&args);
        assert!(key.len() >= 64 && !table.contains(&key), "{table}");
        assert!(table.contains(&format!("key_hash = \"{}\"", KeyHash::of(&key))), "{table}");
        assert!(table.contains("realms = [\"realm1\"]") && table.contains("\"read\""), "{table}");
        assert_ne!(apikey(&args).0, key);
    }
}
