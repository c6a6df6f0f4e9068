//! Tables of pages in `docs`: what stands between two markers is written by a task.

use anyhow::{Context, Result};

/// Replaces what stands between `<!-- name -->` and `<!-- /name -->`.
pub fn replace(page: &str, name: &str, with: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let from = page.find(&begin).with_context(|| format!("the page has no {begin}"))? + begin.len();
    let to = from + page[from..].find(&end).with_context(|| format!("the page has no {end}"))?;
    Ok(format!("{}{}\n{}", &page[..from], with.trim_end(), &page[to..]))
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[test]
    fn only_the_named_part_is_replaced() {
        let page = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n";
        let new = "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n";
        assert_eq!(replace(page, "x", "new\n\n").unwrap(), new);
        assert!(replace(page, "z", "").is_err());
    }
}
