//! Which objects an operand stands for: one key, a glob, or everything below a folder.

use domain::BucketName;
use wire::rest::{ListAnswer, ObjectInfo};

use crate::address::Remote;
use crate::failure::{Exit, Failure, Outcome};
use crate::files::key_glob;
use crate::store::Store;

/// How operands are read.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Everything below each operand.
    pub recursive: bool,
    /// `*` and the like are ordinary characters.
    pub no_glob: bool,
}

/// An object that an operand stands for.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it is.
    pub address: Remote,
    /// Its name below the folder that the operand names.
    pub relative: String,
    /// As listed.
    pub info: ObjectInfo,
}

/// What an operand stands for.
#[derive(Debug)]
pub struct Match {
    /// The objects, by key.
    pub objects: Vec<Found>,
    /// Whether the operand names one object by its key.
    pub exact: bool,
}

/// Finds the objects of several operands; `failed` is told of each that stands for none.
pub async fn find_all(
    store: &Store,
    remotes: &[Remote],
    how: How,
    mut failed: impl FnMut(&Remote, Failure),
) -> Vec<Found> {
    let mut objects = Vec::new();
    for remote in remotes {
        match find(store, remote, how).await {
            Ok(matched) => objects.extend(matched.objects),
            Err(failure) => failed(remote, failure),
        }
    }
    objects
}

/// Finds the objects of an operand.
///
/// # Errors
/// Not found when there is none; usage when it names a folder and `recursive` was not said.
pub async fn find(store: &Store, remote: &Remote, how: How) -> Outcome<Match> {
    if how.recursive {
        return below(store, remote).await;
    }
    if !how.no_glob
        && let Some((prefix, matcher)) = key_glob(&remote.key)?
    {
        let base = folder_end(prefix);
        let mut objects = Vec::new();
        each_page(store, &remote.bucket, prefix, None, |page| {
            for info in page.objects {
                if matcher.is_match(info.key.as_str()) {
                    objects.push(found(remote, info, base));
                }
            }
        })
        .await?;
        return some(objects, || {
            Failure::new(
                Exit::NotFound,
                "not_found",
                format!("nothing matches {remote}"),
            )
            .advise("--no-glob takes its characters literally")
        })
        .map(|objects| Match {
            objects,
            exact: false,
        });
    }
    if remote.is_folder() {
        return Err(Failure::usage(format!("{remote} is not one object"))
            .advise("-r takes everything below it"));
    }
    let info = match store.stat(remote).await {
        Ok(stat) => stat.object,
        Err(failure) if failure.exit == Exit::NotFound => {
            return Err(explain_missing(store, remote, failure).await);
        }
        Err(failure) => return Err(failure),
    };
    let base = folder_end(info.key.as_str());
    Ok(Match {
        objects: vec![found(remote, info, base)],
        exact: true,
    })
}

/// Calls `each` with every page of a listing.
///
/// # Errors
/// As the store says.
pub async fn each_page(
    store: &Store,
    bucket: &BucketName,
    prefix: &str,
    delimiter: Option<&str>,
    mut each: impl FnMut(ListAnswer),
) -> Outcome {
    let mut after: Option<String> = None;
    loop {
        let page = store
            .list(bucket, prefix, delimiter, after.as_deref())
            .await?;
        let next = page.next.clone();
        each(page);
        match next {
            // A gateway that answers with the same cursor for ever must not hold us for ever.
            Some(next) if after.as_ref() != Some(&next) => after = Some(next),
            Some(_) => {
                return Err(Failure::new(
                    Exit::Failure,
                    "listing",
                    "the gateway's listing does not advance",
                ));
            }
            None => return Ok(()),
        }
    }
}

async fn below(store: &Store, remote: &Remote) -> Outcome<Match> {
    let key = remote.key.as_str();
    // `photos` means the folder photos (and an object of that very name), not photos2.
    let folder = format!("{key}/");
    let contents = remote.is_folder();
    let base = if contents { key.len() } else { folder_end(key) };
    let mut objects = Vec::new();
    each_page(store, &remote.bucket, key, None, |page| {
        for info in page.objects {
            if contents || info.key.as_str() == key || info.key.as_str().starts_with(&folder) {
                objects.push(found(remote, info, base));
            }
        }
    })
    .await?;
    // An empty bucket is nothing to do; an empty folder does not exist.
    if objects.is_empty() && !key.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            "not_found",
            format!("there is nothing below {remote}"),
        ));
    }
    Ok(Match {
        objects,
        exact: false,
    })
}

async fn explain_missing(store: &Store, remote: &Remote, failure: Failure) -> Failure {
    let folder = format!("{}/", remote.key);
    match store.list(&remote.bucket, &folder, Some("/"), None).await {
        Ok(page) if !page.objects.is_empty() || !page.prefixes.is_empty() => {
            Failure::usage(format!("{remote} is a folder")).advise("-r takes everything below it")
        }
        _ => failure,
    }
}

fn found(remote: &Remote, info: ObjectInfo, base: usize) -> Found {
    let key = info.key.as_str();
    Found {
        address: Remote {
            bucket: remote.bucket.clone(),
            key: key.to_owned(),
        },
        relative: key.get(base..).unwrap_or(key).to_owned(),
        info,
    }
}

/// Bytes of a key up to and with its last `/`.
fn folder_end(key: &str) -> usize {
    key.rfind('/').map_or(0, |at| at + 1)
}

fn some<T>(items: Vec<T>, none: impl FnOnce() -> Failure) -> Outcome<Vec<T>> {
    if items.is_empty() {
        Err(none())
    } else {
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_end_after_their_slash() {
        for (key, end) in [("a", 0), ("a/b", 2), ("a/b/", 4), ("", 0)] {
            assert_eq!(folder_end(key), end);
        }
    }
}
