//! The configurations that come with the program, as they are but for ports that are free and programs that are here.

use crate::support::Program;

#[test]
fn s2_15_an_api_that_other_machines_reach_needs_a_key() {
    let arguments =
        ["config", "check", "--preset", "message-center", "--set", "listener.1.bind=0.0.0.0:6789"];
    let (status, _, error) = Program::start(&arguments).finish();
    assert_eq!(status.code(), Some(2), "{error}");
    assert!(error.contains("http_api.key") || error.contains("[[http_api.key]]"), "{error}");
}

#[test]
fn a_preset_is_a_text_to_start_from() {
    for name in ["echo", "message-center"] {
        let (status, text, _) = Program::start(&["config", "preset", name]).finish();
        assert!(status.success() && text.starts_with("# "), "{text}");
        let folder = crate::support::Folder::new(&format!("preset-{name}"));
        let file = folder.write("fanwire.toml", &text);
        let shown = |arguments: &[&str]| {
            let (status, shown, error) = Program::start(&[&["config", "show"], arguments].concat()).finish();
            assert!(status.success(), "{error}");
            // Where each was written differs.
            shown
                .lines()
                .map(|line| line.split(" # ").next().unwrap_or_default().trim_end().to_owned())
                .collect()
        };
        let (of_file, of_preset): (Vec<String>, Vec<String>) = (shown(&[&file]), shown(&["--preset", name]));
        assert_eq!(of_file, of_preset);
    }
}
