//! What a command said about its failure, so that the end of a long output tells the cause.

use std::collections::VecDeque;
use std::fmt;

/// The lines that matter of an output.
#[derive(Default)]
pub struct Causes {
    /// Tests that failed, and what they or a compiler said first.
    found: Vec<String>,
    /// Lines that follow a line that was found and belong to it.
    following: usize,
    /// The end of the output, for whoever says it in words of its own.
    last: VecDeque<String>,
}

impl Causes {
    /// The next line.
    pub fn look_at(&mut self, line: &str) {
        if line.trim().is_empty() {
            self.following = 0;
            return;
        }
        if self.last.len() == LAST_MAX {
            self.last.pop_front();
        }
        self.last.push_back(cut(line));
        let follow = following(line);
        if let Some(count) = follow {
            self.following = count;
        } else if self.following == 0 {
            return;
        } else {
            self.following -= 1;
        }
        // nextest says at the end again what failed.
        if self.found.len() < FOUND_MAX && !(follow.is_some() && self.found.iter().any(|known| known == line))
        {
            self.found.push(cut(line));
        }
    }
}

impl fmt::Display for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = if self.found.is_empty() {
            self.last.iter().map(String::as_str).collect()
        } else {
            self.found.iter().map(String::as_str).collect()
        };
        write!(f, "{}", lines.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n"))
    }
}

/// How many of the lines behind this one belong to it, if it tells a cause.
fn following(line: &str) -> Option<usize> {
    let words = line.trim_start();
    let is_verdict = ["FAIL [", "TIMEOUT [", "FLAKY ", "SIGABRT [", "SIGSEGV [", "SIGKILL [", "ABORT ["];
    if is_verdict.iter().any(|verdict| words.starts_with(verdict))
        || words.starts_with("FAIL ")
        || (words.starts_with("test ") && words.ends_with("FAILED"))
    {
        return Some(0);
    }
    if words.starts_with("thread '") && words.contains("panicked at") {
        return Some(3);
    }
    (words.starts_with("error:") || words.starts_with("error[")).then_some(4)
}

/// One line must not fill the page.
fn cut(line: &str) -> String {
    line.chars().take(LINE_MAX).collect()
}

const FOUND_MAX: usize = 60;
const LAST_MAX: usize = 16;
const LINE_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::Causes;

    fn causes(output: &str) -> String {
        let mut causes = Causes::default();
        output.lines().for_each(|line| causes.look_at(line));
        causes.to_string()
    }

    #[test]
    fn failed_tests_and_their_words_are_found_once() {
        let said = causes(
            "     Compiling everything\n  FAIL [ 0.1s] one::test\n\nthread 'one' panicked at src/a.rs:1:2:\n\
             left is not right\n\n  stack\n  FAIL [ 0.1s] one::test\ntest two ... FAILED\n",
        );
        let lines: Vec<_> = said.lines().map(str::trim).collect();
        let wanted =
            ["FAIL [ 0.1s] one::test", "thread 'one' panicked at src/a.rs:1:2:", "left is not right"];
        assert_eq!(lines, [&wanted[..], &["test two ... FAILED"]].concat());
    }

    #[test]
    fn where_nothing_is_known_the_end_is_shown() {
        let output: String = (0..100).map(|n| format!("line {n}\n")).collect();
        assert!(causes(&output).ends_with("line 99"));
        assert_eq!(causes(&output).lines().count(), 16);
    }
}
