//! Roles that are named outside their realm.

use super::problem::nearest;
use super::schema::Config;

/// What is wrong with the role of this name in the realm of that name: which of the two keys, the words and the help.
pub fn missing(config: &Config, realm: &str, role: &str) -> Option<(&'static str, String, Vec<String>)> {
    let help = |name: &str, of: String, known: &[&str]| {
        let near = nearest(name, known).map(|near| format!("did you mean {near}?"));
        near.into_iter().chain([format!("{of}: {}", known.join(", "))]).collect()
    };
    let Some(found) = config.realm.iter().find(|known| known.name == realm) else {
        let names: Vec<&str> = config.realm.iter().map(|realm| realm.name.as_str()).collect();
        return Some((
            "realm",
            format!("there is no realm {realm:?}"),
            help(realm, "realms".to_owned(), &names),
        ));
    };
    if found.role.iter().any(|known| known.name == role) {
        return None;
    }
    let roles: Vec<&str> = found.role.iter().map(|role| role.name.as_str()).collect();
    let help = help(role, format!("roles of realm {realm:?}"), &roles);
    Some(("role", format!("the realm {realm:?} has no role {role:?}"), help))
}
