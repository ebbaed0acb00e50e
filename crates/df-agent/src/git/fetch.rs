//! Fetching a submitted git URL, from the operator's list only.

use std::ffi::OsStr;

use df_contract::Revision;

use super::error::GitError;
use super::process::Call;
use super::repo::Repo;

/// Whether `url` is below one of `prefixes`. A prefix matches whole path components: `https://git.example/team` allows
/// `https://git.example/team/x.git` and not `https://git.example/team-b/x.git`.
pub fn is_allowed_url(prefixes: &[String], url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let plain = matches!(scheme, "https" | "file")
        && !rest.is_empty()
        && !rest.contains(['@', '?', '#', '\\', '%'])
        && !rest.chars().any(|c| c.is_control() || c.is_whitespace())
        && rest.split('/').all(|part| part != ".." && part != ".");
    plain
        && prefixes.iter().any(|prefix| {
            let prefix = prefix.trim_end_matches('/');
            url.strip_prefix(prefix).is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
}

impl Repo {
    /// Fetches `revision`, or the remote's `HEAD`, from a URL that [`is_allowed_url`] has let through. Redirects,
    /// credentials and submodules are not followed.
    pub async fn fetch(&self, url: &str, revision: Option<&Revision>) -> Result<Revision, GitError> {
        let scheme = url.split("://").next().unwrap_or_default().to_owned();
        let wanted = revision.map_or("HEAD", Revision::as_str);
        let args: [&OsStr; 11] = [
            "-c".as_ref(),
            "http.followRedirects=false".as_ref(),
            "fetch".as_ref(),
            "--quiet".as_ref(),
            "--no-tags".as_ref(),
            "--no-recurse-submodules".as_ref(),
            "--no-write-fetch-head".as_ref(),
            "--no-auto-maintenance".as_ref(),
            "--end-of-options".as_ref(),
            url.as_ref(),
            OsStr::new(wanted),
        ];
        let target = format!("{wanted}:refs/heads/df/source");
        let mut args = args.to_vec();
        args.pop();
        args.push(OsStr::new(&target));
        let call = Call { args, env: vec![("GIT_ALLOW_PROTOCOL", scheme)], ..Call::default() };
        self.git.run(&self.dir, call).await?;
        self.revision_of("refs/heads/df/source").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_addresses_are_fetched() {
        let list = vec!["https://git.example/team/".to_owned(), "file:///srv/git".to_owned()];
        for good in ["https://git.example/team/x.git", "file:///srv/git/x", "https://git.example/team"] {
            assert!(is_allowed_url(&list, good), "{good}");
        }
        for bad in [
            "https://git.example/team-b/x.git",
            "https://git.example/team/../other/x.git",
            "https://git.example/team/%2e%2e/x",
            "https://user@git.example/team/x.git",
            "https://git.example.evil/team/x.git",
            "http://git.example/team/x.git",
            "ssh://git.example/team/x.git",
            "ext::sh -c true",
            "-u./x",
            "/srv/git/x",
        ] {
            assert!(!is_allowed_url(&list, bad), "{bad}");
        }
        assert!(!is_allowed_url(&[], "https://git.example/team/x.git"));
    }
}
