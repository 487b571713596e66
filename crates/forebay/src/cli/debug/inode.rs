//! `forebay debug inode`: one file or directory.

use super::{Place, apply_error, told};
use crate::cli::{output, place::tree_path};
use crate::config::Settings;
use clap::Args;
use forebay_base::{ErrorKind, InodeId, NsPath};
use forebay_metastore::Read;
use forebay_namespace::query::{self, Step};
use serde_json::{Value, json};
use std::ffi::OsString;

/// One file or directory of the state.
#[derive(Debug, Args)]
pub(crate) struct Inode {
    /// A path of the tree, or the number of an inode; files are looked for by number in all of the state.
    inode: OsString,
    #[command(flatten)]
    place: Place,
}

/// Shows it.
pub(super) fn run(args: &Inode, settings: &Settings) -> anyhow::Result<()> {
    let state = args.place.state(settings)?;
    let read = state.read();
    let number = args.inode.to_str().and_then(|text| text.parse::<u64>().ok());
    let (step, path) = match number {
        Some(number) => {
            let found = query::find(read, InodeId(number)).map_err(apply_error)?;
            let step = found.ok_or_else(|| missing(format!("no inode {number}")))?;
            let path = path_of(read, &step)?;
            (step, path)
        }
        None => {
            let path = tree_path(&args.inode)?;
            let resolved = query::resolve(read, &path).map_err(apply_error)?;
            let step = resolved.found().cloned().ok_or_else(|| missing(format!("no file or directory {path}")))?;
            (step, Some(path))
        }
    };
    match args.place.json {
        true => output::line(to_json(&step, path.as_ref())),
        false => lines_of(&step, path.as_ref()).into_iter().for_each(output::line),
    }
    Ok(())
}

fn missing(what: String) -> anyhow::Error {
    told(
        ErrorKind::NotFound,
        format!("{what} in the state on disk"),
        "a running master may have it in memory and in its log still",
    )
}

/// None in the trash.
fn path_of(read: &dyn Read, step: &Step) -> anyhow::Result<Option<NsPath>> {
    match step.inode.inode_id() == InodeId::ROOT {
        true => Ok(Some(NsPath::root())),
        false => query::path_of(read, step.parent, &step.name).map_err(apply_error),
    }
}

fn lines_of(step: &Step, path: Option<&NsPath>) -> Vec<String> {
    let inode = &step.inode;
    let kind = if inode.is_directory() { "directory" } else { "file" };
    let path = path.map_or("deleted, and not purged yet".to_owned(), output::shown);
    vec![
        format!("{kind} {} at {path}, entry of directory {}", inode.id, step.parent.0),
        format!(
            "  length {}, version {}, tag {}",
            inode.length,
            inode.version,
            output::printable(output::or_dash(&inode.tag))
        ),
        format!(
            "  complete {}, loaded {}, made {}, mount {}, write {}, generation {}, version reserved {}",
            inode.is_complete(),
            inode.is_loaded(),
            inode.is_made(),
            inode.mount,
            inode.write,
            inode.generation,
            inode.reserved_version
        ),
        format!(
            "  mode {:04o}, owner {}, group {}, block {}, page {}",
            inode.mode(),
            output::printable(output::or_dash(&inode.owner)),
            output::printable(output::or_dash(&inode.group)),
            inode.block_size(),
            inode.page_size()
        ),
        format!(
            "  modified {} ms, accessed {} ms, changed {} ms, {} xattrs",
            inode.modified_ms,
            inode.accessed_ms(),
            inode.changed_ms(),
            inode.xattrs.len()
        ),
    ]
}

fn to_json(step: &Step, path: Option<&NsPath>) -> Value {
    let inode = &step.inode;
    let mut value = json!({
        "inode": inode.id,
        "kind": if inode.is_directory() { "directory" } else { "file" },
        "parent": step.parent.0,
        "name": String::from_utf8_lossy(&step.name),
        "length": inode.length,
        "version": inode.version,
        "reserved_version": inode.reserved_version,
        "tag": inode.tag,
        "complete": inode.is_complete(),
        "loaded": inode.is_loaded(),
        "made": inode.is_made(),
        "mount": inode.mount,
        "write": inode.write,
        "generation": inode.generation,
        "mode": inode.mode(),
        "owner": inode.owner,
        "group": inode.group,
        "block_size": inode.block_size(),
        "page_size": inode.page_size(),
        "modified_ms": inode.modified_ms,
        "accessed_ms": inode.accessed_ms(),
        "changed_ms": inode.changed_ms(),
        "xattrs": inode.xattrs.len(),
    });
    if let Some(path) = path {
        output::merge(&mut value, output::path_json(path));
    }
    value
}
