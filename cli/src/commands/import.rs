//! `kennel import results FILE`: hands in what other systems' tests came to.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use kennel_model::api::Imported;
use kennel_model::run::Verdict;

use crate::arguments::ImportArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::places::Places;

pub(super) async fn run(places: &Places, command: ImportArguments) -> Result<ExitCode, Failure> {
    let ImportArguments::Results { file, suite, label, format, exit_by_verdict, json } = command;
    let document = read(&file)?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let labels = label.join(",");
    let mut query = vec![("suite", suite.as_str()), ("labels", labels.as_str()), ("file", name.as_str())];
    query.extend(format.as_deref().map(|format| ("format", format)));
    let client = Client::open(places).await?;
    let imported: Result<Imported, Failure> = client.post_document("/imports", &query, document).await;
    let page = imported.as_ref().ok().and_then(|imported| client.page_at(&format!("/suite-runs/{}", imported.run.id)));
    client.close().await;
    let imported = imported?;
    let run = &imported.run;
    if json {
        print_json(&imported);
    } else {
        let (tests, verdict) = (run.tests, run.verdict.map_or("no verdict", Verdict::word));
        print(&format!(
            "{}: {verdict}; {} passed, {} failed, {} errors, {} skipped",
            run.suite, tests.passed, tests.failed, tests.error, tests.skipped
        ));
        page.iter().for_each(|page| print(page));
    }
    let code = if exit_by_verdict { run.verdict.map_or(0, Verdict::exit_code) } else { 0 };
    Ok(ExitCode::from(code))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut document = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut document).map(|_| ())
    } else {
        std::fs::read(file).map(|bytes| document = bytes)
    };
    read.map_err(|e| Failure::bad_input(format!("cannot read {}: {e}", file.display()), Vec::new()))?;
    Ok(document)
}
