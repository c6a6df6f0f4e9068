//! `fanwire hook test`: asks a hook once and tells everything about it.

use std::process::ExitCode;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::Serializer;
use fanwire_control::hooks::{Decision, Failure, HookConfig, Probe, Sample, probe};
use fanwire_core::access::Access;
use fanwire_core::uri::{MatchPolicy, matches};

use crate::cli::HookTestArgs;
use crate::config::schema::{Hook, HookEvent};
use crate::config::{Loaded, Sources};
use crate::wiring;

/// It said no, or nothing that could be understood.
const EXIT_NO: u8 = 1;
/// There is nothing to ask, or it cannot be asked like that.
const EXIT_USAGE: u8 = 2;
/// Nobody is there.
const EXIT_UNREACHABLE: u8 = 3;
/// No answer in time.
const EXIT_LATE: u8 = 4;

/// Asks, prints the conversation, and says by the exit status how it ended.
pub fn hook_test(args: &HookTestArgs, sources: &Sources) -> ExitCode {
    let asked = sources.load().map_err(|problems| problems.to_string()).and_then(|loaded| {
        let core = wiring::core_config(&loaded, 1, |realms| Access::new(realms, 0))
            .map_err(|error| format!("error: {error}"))?;
        let (hook, config) = choose(args, &loaded, &core.access)?;
        let sample = sample(args, &loaded, &hook)?;
        let heading = format!("hook {:?} is asked about {}", config.name, sample.event);
        Ok((heading, ask(&config, &core.access, &sample)?, hook))
    });
    match asked {
        Ok((heading, probe, hook)) => {
            print!("{heading}\n\n{}", words(&probe, &hook));
            ExitCode::from(status(&probe))
        }
        Err(words) => {
            eprintln!("{words}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// The hook that is meant.
fn choose(args: &HookTestArgs, loaded: &Loaded, access: &Access) -> Result<(Hook, HookConfig), String> {
    let hooks = &loaded.config.hook;
    if let Some(url) = &args.url {
        let mut hook = Hook::at("test", url);
        hook.events = vec![args.event.unwrap_or(HookEvent::Connect)];
        hook.body = args.body;
        let url = url.parse().map_err(|wrong| format!("error: --url: {wrong}"))?;
        let read = crate::config::hooks::ReadHook { url: Some(url), headers: Vec::new() };
        let config = wiring::hook(&loaded.config, &hook, &read, access);
        return Ok((hook, config));
    }
    if hooks.is_empty() {
        return Err(
            "error: the configuration has no hook; name it with --config, or ask another one with --url"
                .into(),
        );
    }
    let is_meant = |hook: &&Hook| match (&args.name, args.event) {
        (Some(name), _) => hook.name == *name,
        (None, Some(event)) => hook.events.contains(&event),
        (None, None) => true,
    };
    let names = || hooks.iter().map(|hook| hook.name.as_str()).collect::<Vec<_>>().join(", ");
    let index = hooks.iter().position(|hook| is_meant(&hook)).ok_or_else(|| match &args.name {
        Some(name) => format!("error: there is no hook {name:?}; hooks: {}", names()),
        None => "error: no hook of the configuration is asked about that; name one with --name".to_owned(),
    })?;
    let hook = hooks[index].clone();
    if !hook.procedure.is_empty() {
        let words = "is asked by a call: try it with `fanwire call`, as a user who may call it";
        return Err(format!("error: hook {:?} {words}: {}", hook.name, hook.procedure));
    }
    let config = wiring::hook(&loaded.config, &hook, &loaded.hooks[index], access);
    Ok((hook, config))
}

fn sample(args: &HookTestArgs, loaded: &Loaded, hook: &Hook) -> Result<Sample, String> {
    let realms = &loaded.config.realm;
    let name = args.realm.as_ref().or(hook.realms.first()).unwrap_or(&realms[0].name);
    let realm = realms.iter().find(|realm| realm.name == *name);
    let realm = realm.ok_or_else(|| format!("error: the configuration has no realm {name:?}"))?;
    let role =
        args.role.clone().or_else(|| realm.role.first().map(|role| role.name.clone())).unwrap_or_default();
    OwnedPayload::checked(Serializer::Json, Some(args.args.as_bytes()), None)
        .map_err(|wrong| format!("error: --args: {:?} is not a list in JSON: {wrong}", args.args))?;
    Ok(Sample {
        event: wiring::hook_event(args.event.unwrap_or(hook.events[0])),
        realm: realm.name.clone(),
        authid: args.authid.clone(),
        role,
        token: args.token.clone(),
        topic: args.topic.clone().unwrap_or_else(|| topic_for(hook)),
        args: args.args.clone(),
    })
}

/// A topic that the hook is asked about.
fn topic_for(hook: &Hook) -> String {
    let any = hook
        .uri
        .split('.')
        .map(|name| if name.is_empty() { "demo" } else { name })
        .collect::<Vec<_>>()
        .join(".");
    debug_assert!(matches(wiring::match_policy(hook.match_policy), &hook.uri, &any), "{any}");
    debug_assert!(fanwire_core::uri::check_pattern(&any, MatchPolicy::Exact, Default::default()).is_ok());
    any
}

fn ask(config: &HookConfig, access: &Access, sample: &Sample) -> Result<Probe, String> {
    fanwire_control::hooks::run(probe(config, access, sample)).map_err(|error| format!("error: {error}"))
}

fn words(probe: &Probe, hook: &Hook) -> String {
    let indented = |mark: &str, text: &str| {
        text.lines().map(|line| format!("{mark} {line}").trim_end().to_owned() + "\n").collect::<String>()
    };
    let mut out = indented(">", &probe.request) + "\n";
    if let Some(reply) = &probe.reply {
        out += &indented("<", reply);
        out.push('\n');
    }
    let took = format!("after {:.1} ms", probe.took.as_secs_f64() * 1e3);
    out + &match &probe.verdict {
        Ok(Decision::Allowed(words)) if words.is_empty() => format!("allowed {took}\n"),
        Ok(Decision::Allowed(words)) => format!("allowed {took}: {words}\n"),
        Ok(Decision::Denied(words)) => format!("denied {took}: {words}\n"),
        Err(failure) => {
            let counts = match hook.on_failure {
                crate::config::schema::OnFailure::Deny => "denied",
                crate::config::schema::OnFailure::Allow => "allowed, but for logins",
            };
            format!("no answer {took}: {failure}\na router would take that for: {counts}\n")
        }
    }
}

fn status(probe: &Probe) -> u8 {
    match &probe.verdict {
        Ok(Decision::Allowed(_)) => 0,
        Err(Failure::Timeout) => EXIT_LATE,
        Err(Failure::Unreachable(_)) => EXIT_UNREACHABLE,
        _ => EXIT_NO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::Match;

    #[test]
    fn the_sample_is_about_a_topic_of_the_hook() {
        for (uri, policy, topic) in [
            ("", Match::Prefix, "demo"),
            ("shop.", Match::Prefix, "shop.demo"),
            ("shop.or", Match::Prefix, "shop.or"),
            ("shop..x", Match::Wildcard, "shop.demo.x"),
            ("a.b", Match::Exact, "a.b"),
        ] {
            let mut hook = Hook::at("h", "http://a/");
            (hook.uri, hook.match_policy) = (uri.to_owned(), policy);
            assert_eq!(topic_for(&hook), topic);
        }
    }
}
