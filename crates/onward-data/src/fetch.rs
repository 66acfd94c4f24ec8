//! Public data sets: where they are, how to know them, how to get them.

use crate::error::{Error, Result};
use flate2::read::GzDecoder;
use md5::{Digest, Md5};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A public data set.
#[derive(Debug)]
pub struct Known {
    /// What it is called here.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// On what terms it may be used.
    pub licence: &'static str,
    /// Folders on the web that hold its files.
    pub mirrors: &'static [&'static str],
    /// Its files.
    pub files: &'static [Published],
}

/// A published file.
#[derive(Debug)]
pub struct Published {
    /// Its name.
    pub name: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its MD5, as published with it.
    pub md5: &'static str,
    /// The files in it that are read, and their sizes in bytes, where it is an archive.
    pub holds: &'static [(&'static str, u64)],
}

const fn file(name: &'static str, bytes: u64, md5: &'static str) -> Published {
    Published { name, bytes, md5, holds: &[] }
}

/// The data sets that can be fetched.
pub const KNOWN: &[Known] = &[
    Known {
        name: "mnist-files",
        about: "MNIST as published: 70,000 handwritten digits, 28×28 grey",
        licence: "CC BY-SA 3.0",
        mirrors: &[
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ],
        files: &[
            file("train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            file("train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
            file("t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
            file("t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
        ],
    },
    Known {
        name: "fashion-mnist",
        about: "Fashion-MNIST: 70,000 pieces of clothing in 10 classes, 28×28 grey",
        licence: "MIT",
        mirrors: &[
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ],
        files: &[
            file("train-images-idx3-ubyte.gz", 26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            file("train-labels-idx1-ubyte.gz", 29_515, "25c81989df183df01b3e8a0aad5dffbe"),
            file("t10k-images-idx3-ubyte.gz", 4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
            file("t10k-labels-idx1-ubyte.gz", 5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
        ],
    },
    Known {
        name: "cifar10",
        about: "CIFAR-10: 60,000 photographs in 10 classes, 32×32 colour",
        licence: "none stated",
        mirrors: &["https://www.cs.toronto.edu/~kriz/"],
        files: &[Published {
            name: "cifar-10-binary.tar.gz",
            bytes: 170_052_171,
            md5: "c32a1d4ab5d03f1284b67883e8d87530",
            holds: &[
                ("data_batch_1.bin", 30_730_000),
                ("data_batch_2.bin", 30_730_000),
                ("data_batch_3.bin", 30_730_000),
                ("data_batch_4.bin", 30_730_000),
                ("data_batch_5.bin", 30_730_000),
                ("test_batch.bin", 30_730_000),
            ],
        }],
    },
];

/// The data set of this name.
pub fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// Where fetched data is kept: `$ONWARD_DATA`, or `onward` in the user's cache folder.
pub fn cache_dir() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("ONWARD_DATA")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("onward")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/onward")))
        .unwrap_or_else(|| PathBuf::from("onward-data"))
}

/// What a download is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetching<'a> {
    /// This file is here already, whole.
    Here(&'a str),
    /// It starts on a file of so many bytes.
    Start(&'a str, u64),
    /// So many bytes of the file have come.
    Bytes(u64),
    /// The file is here, checked.
    Checked,
    /// This mirror was no good, and why.
    Failed(&'a str),
}

impl Known {
    /// Whether all that is read is in `cache/NAME`, by its size: the files, unpacked where they are archives.
    pub fn is_in(&self, cache: &Path) -> bool {
        self.files.iter().all(|file| file.is_in(&cache.join(self.name)))
    }
}

impl Published {
    /// Whether it is in the folder, or all that it holds, by size.
    fn is_in(&self, folder: &Path) -> bool {
        let itself = [(self.name, self.bytes)];
        let read = if self.holds.is_empty() { &itself[..] } else { self.holds };
        let length = |name: &str| folder.join(name).metadata().map(|found| found.len());
        read.iter().all(|&(name, bytes)| length(name).is_ok_and(|length| length == bytes))
    }
}

/// Downloads a data set into `into/NAME`, which is returned. Files that are there already, whole, are kept. `tell` is
/// told what is being done. The download itself is the work of `curl` or `wget`, whichever is installed.
///
/// # Errors
/// Where there is no network, or a file is not the published one; it says how to get the files by hand.
pub fn fetch(known: &Known, into: &Path, mut tell: impl FnMut(Fetching<'_>)) -> Result<PathBuf> {
    let folder = into.join(known.name);
    std::fs::create_dir_all(&folder).map_err(|error| Error::new(&folder, format!("it could not be made: {error}")))?;
    for file in known.files {
        let place = folder.join(file.name);
        let unpacked = !file.holds.is_empty() && file.is_in(&folder);
        if unpacked || check(&place, file).is_ok() {
            tell(Fetching::Here(file.name));
        } else {
            download(known, file, &folder, &mut tell)?;
        }
        if !file.holds.is_empty() && !unpacked {
            unpack(&place, &folder)?;
        }
    }
    Ok(folder)
}

fn download(known: &Known, file: &Published, folder: &Path, tell: &mut impl FnMut(Fetching<'_>)) -> Result<()> {
    // Always the same name, so that an interrupted download leaves no more than one behind.
    let (place, part) = (folder.join(file.name), folder.join(format!("{}.part", file.name)));
    for mirror in known.mirrors {
        let url = format!("{mirror}{}", file.name);
        tell(Fetching::Start(&url, file.bytes));
        match transfer(&url, &part, file.bytes, tell).and_then(|()| check(&part, file)) {
            Ok(()) => {
                let kept = File::open(&part).and_then(|file| file.sync_all());
                let kept = kept.and_then(|()| std::fs::rename(&part, &place));
                kept.map_err(|error| Error::new(&place, format!("it could not be kept: {error}")))?;
                tell(Fetching::Checked);
                return Ok(());
            }
            Err(problem) => tell(Fetching::Failed(&problem)),
        }
        // Where there is nothing to remove, that is as well.
        let _ = std::fs::remove_file(&part);
    }
    let mut problem = format!(
        "{} could not be fetched. By hand: put these files into that folder, from a machine with a network, and run the \
         command again",
        file.name
    );
    for file in known.files {
        problem.push_str(&format!("\n  {}{}  (MD5 {})", known.mirrors[0], file.name, file.md5));
    }
    Err(Error::new(folder, problem))
}

/// Has `curl` or `wget` write the `bytes` bytes at `url` to `to`.
fn transfer(url: &str, to: &Path, bytes: u64, tell: &mut impl FnMut(Fetching<'_>)) -> std::result::Result<(), String> {
    let mut curl = Command::new("curl");
    curl.args(["--fail", "--location", "--silent", "--show-error", "--connect-timeout", "20"])
        .args(["--speed-limit", "1000", "--speed-time", "30", "--output"])
        .arg(to)
        .arg(url);
    let mut wget = Command::new("wget");
    wget.args(["--no-verbose", "--connect-timeout=20", "--read-timeout=30", "--tries=2", "-O"]).arg(to).arg(url);
    for mut program in [curl, wget] {
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let Ok(mut child) = program.spawn() else { continue };
        while child.try_wait().map_err(|error| error.to_string())?.is_none() {
            let come = to.metadata().map_or(0, |found| found.len());
            tell(Fetching::Bytes(come.min(bytes)));
            if come > bytes {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return match output.status.success() || to.metadata().is_ok_and(|found| found.len() > bytes) {
            true => Ok(()),
            false if said.is_empty() => Err(format!("no answer ({})", output.status)),
            false => Err(said),
        };
    }
    Err("neither `curl` nor `wget` is installed".into())
}

/// Whether the file at `path` is the published one.
fn check(path: &Path, published: &Published) -> std::result::Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length != published.bytes {
        return Err(format!("found {length} bytes, expected {}", published.bytes));
    }
    let (mut reader, mut hash, mut buffer) = (BufReader::new(file), Md5::new(), vec![0; 1 << 16]);
    loop {
        match reader.read(&mut buffer).map_err(|error| error.to_string())? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == published.md5 { Ok(()) } else { Err(format!("found MD5 {found}, expected {}", published.md5)) }
}

/// Unpacks an archive's files into `folder`, without any folders of its own.
fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    let broken = |error: std::io::Error| Error::new(archive, format!("it could not be unpacked: {error}"));
    let file = File::open(archive).map_err(broken)?;
    for entry in tar::Archive::new(GzDecoder::new(BufReader::new(file))).entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        // The last part of the name alone: nothing in an archive decides which folder is written to.
        let name = entry.path().map_err(broken)?.file_name().map(ToOwned::to_owned);
        let Some(name) = name else { continue };
        let mut scratch = tempfile::NamedTempFile::new_in(folder).map_err(broken)?;
        std::io::copy(&mut entry, &mut scratch).map_err(broken)?;
        scratch.persist(folder.join(name)).map_err(|error| broken(error.error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_not_the_published_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hello");
        std::fs::write(&path, "hello").unwrap();
        assert_eq!(check(&path, &file("hello", 5, "5d41402abc4b2a76b9719d911017c592")), Ok(()));
        assert!(
            check(&path, &file("hello", 5, "00000000000000000000000000000000")).unwrap_err().contains("found MD5 5d41")
        );
        assert!(check(&path, &file("hello", 6, "")).unwrap_err().contains("found 5 bytes, expected 6"));
    }

    #[test]
    fn without_a_network_it_says_what_to_do() {
        const NOWHERE: Known = Known {
            name: "nowhere",
            about: "",
            licence: "",
            mirrors: &["http://127.0.0.1:9/"],
            files: &[file("a.gz", 3, "900150983cd24fb0d6963f7d28e17f72")],
        };
        let folder = tempfile::tempdir().unwrap();
        let error = fetch(&NOWHERE, folder.path(), |_| ()).unwrap_err().to_string();
        assert!(error.contains("a.gz could not be fetched. By hand:"), "{error}");
        assert!(error.contains("\n  http://127.0.0.1:9/a.gz  (MD5 900150983cd24fb0d6963f7d28e17f72)"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path().join("nowhere")).unwrap().count(), 0, "no scratch file is left");
        assert!(!NOWHERE.is_in(folder.path()));

        // Put there by hand, it is taken.
        std::fs::write(folder.path().join("nowhere/a.gz"), "abc").unwrap();
        fetch(&NOWHERE, folder.path(), |what| assert_eq!(what, Fetching::Here("a.gz"))).unwrap();
        assert!(NOWHERE.is_in(folder.path()));
    }

    /// A web server that answers every request with `body`.
    fn server(body: &'static str) -> &'static str {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut request) = (stream.unwrap(), [0; 1024]);
                let _ = stream.read(&mut request);
                let header = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                stream.write_all((header + body).as_bytes()).unwrap();
            }
        });
        Box::leak(format!("http://{address}/").into_boxed_str())
    }

    #[test]
    fn the_first_mirror_with_the_published_file_serves() {
        let installed = |program| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
        if !installed("curl") && !installed("wget") {
            return;
        }
        let mirrors: [&str; 3] = [server("abd"), server("abc and more"), server("abc")];
        let known = Known {
            name: "some",
            about: "",
            licence: "",
            mirrors: mirrors.to_vec().leak(),
            files: vec![file("a.gz", 3, "900150983cd24fb0d6963f7d28e17f72")].leak(),
        };
        let folder = tempfile::tempdir().unwrap();
        let mut told = Vec::new();
        let place = fetch(&known, folder.path(), |what| match what {
            Fetching::Start(url, bytes) => told.push(format!("{url} {bytes}")),
            Fetching::Failed(problem) => told.push(problem.to_owned()),
            Fetching::Checked => told.push("checked".into()),
            _ => {}
        });
        let [a, b, c] = mirrors.map(|mirror| format!("{mirror}a.gz 3"));
        let wrong = "found MD5 4911e516e5aa21d327512e0c8b197616, expected 900150983cd24fb0d6963f7d28e17f72".to_owned();
        assert_eq!(told, [a, wrong, b, "found 12 bytes, expected 3".into(), c, "checked".into()]);
        let files: Vec<_> =
            std::fs::read_dir(place.unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, ["a.gz"]);
    }

    #[test]
    fn an_archive_unpacked_by_hand_is_taken() {
        let archive = Published { holds: &[("a.bin", 3)], ..file("a.tar.gz", 9, "") };
        let files = vec![archive].leak();
        let known = Known { name: "some", about: "", licence: "", mirrors: &["http://127.0.0.1:9/"], files };
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("some")).unwrap();
        std::fs::write(folder.path().join("some/a.bin"), "ab").unwrap();
        assert!(!known.is_in(folder.path()), "it is cut short");
        std::fs::write(folder.path().join("some/a.bin"), "abc").unwrap();
        assert!(known.is_in(folder.path()));
        fetch(&known, folder.path(), |what| assert_eq!(what, Fetching::Here("a.tar.gz"))).unwrap();
    }

    #[test]
    fn archives_write_only_where_they_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("a.tar.gz");
        let mut builder =
            tar::Builder::new(flate2::write::GzEncoder::new(File::create(&archive).unwrap(), Default::default()));
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        let name = b"../../evil";
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        builder.append(&header, &b"abc"[..]).unwrap();
        builder.into_inner().unwrap().finish().unwrap();
        unpack(&archive, folder.path()).unwrap();
        assert_eq!(std::fs::read(folder.path().join("evil")).unwrap(), b"abc");
    }
}
