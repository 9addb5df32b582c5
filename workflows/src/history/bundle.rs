//! A bundle on disk: a folder with a gzipped CSV file per table, and a manifest with their checksums. Written under another name and made
//! durable before it gets its own; read back line by line, so that what cannot be brought back is noticed while the rows are still there.

use super::HistoryError;
use crate::db::Ts;
use crate::ledger::history::Counts;
use crate::ledger::lines::{AttemptLine, EffectLine, Line, Lines, Page, RunLine, StepLine};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The format that this version writes.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// Lines that are handed on together.
const LINES: usize = 500;

/// What a bundle holds, and the checksums of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Manifest {
    pub format: u32,
    /// The installation whose ledger it was.
    pub installation: Uuid,
    pub name: String,
    /// YYYY-MM, when it is a monthly partition set.
    pub month: Option<String>,
    pub made_at: Ts,
    pub first_run: Uuid,
    pub last_run: Uuid,
    /// When its first run was started.
    pub oldest: Ts,
    /// When its last run was started.
    pub newest: Ts,
    /// By file name.
    pub files: BTreeMap<String, FileEntry>,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct FileEntry {
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
}

impl Manifest {
    /// Rows by table.
    pub(crate) fn counts(&self) -> Counts {
        let rows = |table: &str| self.files.get(&file_name(table)).map_or(0, |file| file.rows);
        Counts {
            runs: rows(RunLine::TABLE),
            steps: rows(StepLine::TABLE),
            attempts: rows(AttemptLine::TABLE),
            effects: rows(EffectLine::TABLE),
        }
    }

    /// How many runs it holds.
    pub fn runs(&self) -> u64 {
        self.counts().runs
    }

    /// The size of its files together.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }
}

fn file_name(table: &str) -> String {
    format!("{table}.csv.gz")
}

/// The name under which a bundle is made; it is no bundle yet.
pub(super) fn unfinished(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.making"))
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> HistoryError + 'a {
    move |source| HistoryError::File { doing, path: path.display().to_string(), source }
}

/// A bundle in the making. Dropping it leaves a folder that is no bundle.
pub(super) struct Writer {
    folder: PathBuf,
    at: PathBuf,
    runs: Table,
    steps: Table,
    attempts: Table,
    effects: Table,
    ends: Option<(RunLine, RunLine)>,
}

impl Writer {
    /// Makes its folder, and the history folder where it is missing.
    pub(super) fn begin(folder: &Path, name: &str) -> Result<Self, HistoryError> {
        make_durably(folder)?;
        let at = unfinished(folder, name);
        std::fs::create_dir(&at).map_err(failed("make", &at))?;
        let table = |name: &str, columns| Table::begin(at.join(file_name(name)), columns);
        Ok(Self {
            runs: table(RunLine::TABLE, RunLine::COLUMNS)?,
            steps: table(StepLine::TABLE, StepLine::COLUMNS)?,
            attempts: table(AttemptLine::TABLE, AttemptLine::COLUMNS)?,
            effects: table(EffectLine::TABLE, EffectLine::COLUMNS)?,
            folder: folder.to_owned(),
            at,
            ends: None,
        })
    }

    /// Adds runs that come after those before.
    pub(super) fn add(&mut self, page: Page) -> Result<(), HistoryError> {
        let (Some(first), Some(last)) = (page.runs.first(), page.runs.last()) else { return Ok(()) };
        let first = self.ends.take().map_or_else(|| first.clone(), |(first, _)| first);
        self.ends = Some((first, last.clone()));
        self.runs.add(&page.runs)?;
        self.steps.add(&page.steps)?;
        self.attempts.add(&page.attempts)?;
        self.effects.add(&page.effects)
    }

    /// Makes it durable, reads it back and gives it its name. Answers the manifest and its checksum; `None` where there was no run.
    pub(super) fn finish(
        self,
        name: &str,
        installation: Uuid,
        month: Option<String>,
        made_at: Ts,
    ) -> Result<Option<(Manifest, String)>, HistoryError> {
        let Some((first, last)) = self.ends else { return Ok(None) };
        let mut files = BTreeMap::new();
        for table in [self.runs, self.steps, self.attempts, self.effects] {
            let (file, entry) = table.finish()?;
            files.insert(file, entry);
        }
        let manifest = Manifest {
            format: FORMAT,
            installation,
            name: name.to_owned(),
            month,
            made_at,
            first_run: first.id,
            last_run: last.id,
            oldest: first.created_at,
            newest: last.created_at,
            files,
        };
        let path = self.at.join(MANIFEST);
        let text =
            serde_json::to_vec_pretty(&manifest).map_err(std::io::Error::from).map_err(failed("write", &path))?;
        let mut file = File::create(&path).map_err(failed("make", &path))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed("write", &path))?;
        sync_folder(&self.at)?;
        let sha256 = hex::encode(Sha256::digest(&text));
        let read = read_manifest(&self.at, name, installation, &sha256)?;
        check_files(&self.at, &read)?;
        let named = self.folder.join(name);
        std::fs::rename(&self.at, &named).map_err(failed("rename", &self.at))?;
        sync_folder(&self.folder)?;
        Ok(Some((manifest, sha256)))
    }
}

/// One file in the making.
struct Table {
    path: PathBuf,
    csv: csv::Writer<GzEncoder<Summed<BufWriter<File>>>>,
    rows: u64,
}

impl Table {
    fn begin(path: PathBuf, columns: &[&str]) -> Result<Self, HistoryError> {
        let file = File::create(&path).map_err(failed("make", &path))?;
        let gzip = GzEncoder::new(Summed::new(BufWriter::new(file)), Compression::default());
        let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(gzip);
        csv.write_record(columns).map_err(std::io::Error::from).map_err(failed("write", &path))?;
        Ok(Self { path, csv, rows: 0 })
    }

    fn add<L: Line>(&mut self, lines: &[L]) -> Result<(), HistoryError> {
        for line in lines {
            self.csv.serialize(line).map_err(std::io::Error::from).map_err(failed("write", &self.path))?;
        }
        self.rows += lines.len() as u64;
        Ok(())
    }

    fn finish(self) -> Result<(String, FileEntry), HistoryError> {
        let path = self.path;
        let failed = || failed("write", &path);
        let gzip = self.csv.into_inner().map_err(|error| error.into_error()).map_err(failed())?;
        let mut summed = gzip.finish().map_err(failed())?;
        summed.inner.flush().map_err(failed())?;
        summed.inner.get_ref().sync_all().map_err(failed())?;
        let entry = FileEntry { rows: self.rows, bytes: summed.bytes, sha256: hex::encode(summed.sum.finalize()) };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok((name, entry))
    }
}

/// Sums up what passes.
struct Summed<T> {
    inner: T,
    sum: Sha256,
    bytes: u64,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Self { inner, sum: Sha256::new(), bytes: 0 }
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.pass(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Summed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.pass(&bytes[..read]);
        Ok(read)
    }
}

/// The manifest of a bundle folder, when it is the one with this checksum, of this installation, and of a format that we know.
pub(super) fn read_manifest(at: &Path, name: &str, installation: Uuid, sha256: &str) -> Result<Manifest, HistoryError> {
    let path = at.join(MANIFEST);
    let missing = || HistoryError::Missing { name: name.to_owned(), path: path.display().to_string() };
    let text = std::fs::read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => missing(),
        _ => failed("read", &path)(error),
    })?;
    let damaged = |why: String| HistoryError::Damaged { name: name.to_owned(), file: MANIFEST.to_owned(), why };
    // Whose it is and which format it has is said even where the checksum is another: that is the better advice.
    #[derive(Deserialize)]
    struct Head {
        format: u32,
        installation: Uuid,
    }
    let head: Head = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if head.installation != installation {
        return Err(HistoryError::Foreign { name: name.to_owned(), installation: head.installation });
    }
    if head.format != FORMAT {
        return Err(HistoryError::Format { name: name.to_owned(), format: head.format });
    }
    if hex::encode(Sha256::digest(&text)) != sha256 {
        return Err(damaged("its checksum is not the one that the ledger knows".to_owned()));
    }
    serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))
}

/// Reads every line of every file and compares counts and checksums.
pub(super) fn check_files(at: &Path, manifest: &Manifest) -> Result<(), HistoryError> {
    read_files(at, manifest, &mut |_| true)
}

/// Hands on the lines of every file, the runs first, until `to` answers false; then compares counts and checksums.
pub(super) fn read_files(
    at: &Path,
    manifest: &Manifest,
    to: &mut dyn FnMut(Lines) -> bool,
) -> Result<(), HistoryError> {
    read_file(at, manifest, to, Lines::Runs)?;
    read_file(at, manifest, to, Lines::Steps)?;
    read_file(at, manifest, to, Lines::Attempts)?;
    read_file(at, manifest, to, Lines::Effects)
}

fn read_file<L: Line>(
    at: &Path,
    manifest: &Manifest,
    to: &mut dyn FnMut(Lines) -> bool,
    as_lines: fn(Vec<L>) -> Lines,
) -> Result<(), HistoryError> {
    let file = file_name(L::TABLE);
    let path = at.join(&file);
    let damaged = |why: String| HistoryError::Damaged { name: manifest.name.clone(), file: file.clone(), why };
    let Some(entry) = manifest.files.get(&file) else {
        return Err(damaged("the manifest does not name it".to_owned()));
    };
    let open = File::open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            HistoryError::Missing { name: manifest.name.clone(), path: path.display().to_string() }
        }
        _ => failed("read", &path)(error),
    })?;
    let mut csv = csv::Reader::from_reader(GzDecoder::new(BufReader::new(Summed::new(open))));
    let columns = csv.headers().map_err(|error| damaged(error.to_string()))?;
    if columns.iter().ne(L::COLUMNS.iter().copied()) {
        return Err(damaged("its columns are others than this version knows".to_owned()));
    }
    let (mut rows, mut lines) = (0, Vec::new());
    for line in csv.deserialize::<L>() {
        lines.push(line.map_err(|error| damaged(error.to_string()))?);
        rows += 1;
        if lines.len() == LINES && !to(as_lines(std::mem::take(&mut lines))) {
            return Ok(());
        }
    }
    if !lines.is_empty() && !to(as_lines(lines)) {
        return Ok(());
    }
    // What may stand after the last line is part of the file too.
    let mut rest = csv.into_inner().into_inner();
    std::io::copy(&mut rest, &mut std::io::sink()).map_err(failed("read", &path))?;
    let summed = rest.into_inner();
    let found = FileEntry { rows, bytes: summed.bytes, sha256: hex::encode(summed.sum.finalize()) };
    if found != *entry {
        return Err(damaged(format!(
            "it holds {} rows in {} bytes with the checksum {}, not {} rows in {} bytes with {}",
            found.rows, found.bytes, found.sha256, entry.rows, entry.bytes, entry.sha256
        )));
    }
    Ok(())
}

/// Removes what a bundle of this name left, under either name.
pub(super) fn remove(folder: &Path, name: &str) -> Result<(), HistoryError> {
    for at in [unfinished(folder, name), folder.join(name)] {
        match std::fs::remove_dir_all(&at) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed("remove", &at)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Makes a folder so that a power failure does not take it back, nor those above it that were missing.
fn make_durably(folder: &Path) -> Result<(), HistoryError> {
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    std::fs::create_dir_all(folder).map_err(failed("make", folder))?;
    for made in missing {
        match made.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent)?,
            _ => sync_folder(Path::new("."))?,
        }
    }
    Ok(())
}

/// The names in a folder are durable only when the folder is.
fn sync_folder(folder: &Path) -> Result<(), HistoryError> {
    File::open(folder).and_then(|open| open.sync_all()).map_err(failed("make durable", folder))
}
