//! Documents that are damaged, or made to harm.

use kennel_results::{Limits, ReadError, read, read_within};
use proptest::prelude::*;

#[track_caller]
fn refused(document: &[u8]) -> String {
    match read(None, document) {
        Ok(cases) => panic!("{} results were read", cases.len()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn entities_and_document_types_are_refused_wherever_they_stand() {
    let xxe = r#"<?xml version="1.0"?>
<!DOCTYPE testsuites [<!ENTITY xxe SYSTEM "file:///etc/passwd">]>
<testsuites><testcase name="&xxe;"/></testsuites>"#;
    assert!(matches!(read(None, xxe.as_bytes()), Err(ReadError::Doctype { line: 2 })), "{}", refused(xxe.as_bytes()));
    let lol = r#"<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]><testsuites>&c;</testsuites>"#;
    assert!(matches!(read(None, lol.as_bytes()), Err(ReadError::Doctype { .. })));
    let external = r#"<!DOCTYPE robot SYSTEM "http://127.0.0.1:1/x.dtd"><robot/>"#;
    assert!(matches!(read(None, external.as_bytes()), Err(ReadError::Doctype { .. })));
    for inside in ["<testcase name='&xxe;'/>", "<testcase name='t'><failure>&xxe;</failure></testcase>"] {
        let document = format!("<testsuites>\n\n{inside}</testsuites>");
        let error = refused(document.as_bytes());
        assert!(error.starts_with("line 3: the entity &xxe; is refused"), "{error}");
    }
}

#[test]
fn what_is_cut_off_or_damaged_says_where() {
    for (document, expected) in [
        ("", "the document is empty"),
        ("   \n ", "the document is empty"),
        ("<html><body/></html>", "the document is <html>"),
        ("hello", "text outside of the root element: `hello`"),
        ("{\"a\": 1}", "JSON without a suite"),
        ("{\"suite\": ", "line 1, column 10: EOF"),
        ("[1, 2]", "line 1, column"),
        ("<testsuites>\n<testsuite>\n<testcase name='a'>\n", "line 4: the document ends within <testcase>"),
        ("<testsuites>\n<testsuite>\n</testsuites>", "line 3"),
        ("<testsuites>\n<testcase name='a", "line 2"),
        ("<testsuites>\n<testcase name=a b=c/></testsuites>", "line 2"),
        ("<testsuites><testcase name='a' name='b'/></testsuites>", "line 1"),
        ("<testsuites/><testsuites/>", "a second root element"),
        ("<testsuites/>and so on", "text outside of the root element: `and so on`"),
        ("<testsuites>&#xD800;</testsuites>", "line 1"),
        ("\u{feff}<?xml version='1.0' encoding='UTF-16'?><testsuites/>", "save it as UTF-8"),
    ] {
        let error = refused(document.as_bytes());
        assert!(error.contains(expected), "{document}: {error}");
    }
    assert!(refused(b"\xff\xfe<\0t\0").contains("UTF-16"));
}

#[test]
fn limits_are_told_by_name() {
    let limits = Limits { bytes: 20_000, depth: 50, attributes: 10, cases: 20, detail: 100, details: 500 };
    let read = |document: &str| read_within(None, document.as_bytes(), &limits);
    let deep = format!("<testsuites>{}", "<testsuite>".repeat(60));
    assert!(matches!(read(&deep), Err(ReadError::TooDeep { line: 1, limit: 50 })));
    let wide: String = (0..11).map(|n| format!(" a{n}='1'")).collect();
    assert!(matches!(read(&format!("<testsuites{wide}/>")), Err(ReadError::TooManyAttributes { .. })));
    let many = format!("<testsuites>{}</testsuites>", "<testcase name='t'/>".repeat(21));
    assert!(matches!(read(&many), Err(ReadError::TooManyCases { limit: 20 })));
    let long = format!("<testsuites><testcase name='{}'/></testsuites>", "x".repeat(20_000));
    assert!(matches!(read(&long), Err(ReadError::TooLarge { limit: 20_000 })));
    let json = format!("{{\"suite\": {{\"name\": \"{}\"}}}}", "x".repeat(20_000));
    assert!(matches!(read(&json), Err(ReadError::TooLarge { .. })));
    let failure = format!("<testcase name='t'><failure message='m'>{}</failure></testcase>", "y".repeat(400));
    let verbose = format!("<testsuites>{}</testsuites>", failure.repeat(10));
    let cases = read(&verbose).unwrap();
    assert!(cases[0].detail.contains("left out") && cases[0].detail.len() < 200, "{}", cases[0].detail);
    assert!(cases[9].detail.contains("more detail than is kept"), "{}", cases[9].detail);
}

#[test]
fn json_that_nests_without_end_is_refused() {
    let deep = format!("{{\"suite\": {}", "{\"suites\": [".repeat(100_000));
    assert!(refused(deep.as_bytes()).contains("recursion limit"));
}

#[test]
fn a_large_document_is_no_cliff() {
    let case = "<testcase classname='c' name='n'><system-out>some output of a passed test\n</system-out></testcase>\n";
    let document = format!("<testsuites>{}</testsuites>", case.repeat(60_000));
    assert_eq!(read(None, document.as_bytes()).unwrap().len(), 60_000);
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(None, bytes.as_slice());
        let mut document = b"<testsuites><testsuite>".to_vec();
        document.extend(&bytes);
        let _ = read(None, document.as_slice());
    }

    #[test]
    fn no_markup_is_too_strange(parts in prop::collection::vec(prop::sample::select(vec![
        "<testsuite name='s'>", "</testsuite>", "<testcase name='t[1]'>", "</testcase>", "<failure message='m'>", "</failure>",
        "<robot>", "</robot>", "<suite name='s'>", "</suite>", "<test name='t'>", "</test>", "<kw name='k'>", "</kw>", "<status status='FAIL'/>",
        "<![CDATA[", "]]>", "<!--", "-->", "text", "&lt;", "&#10;", "<skipped/>", "<rerunFailure/>", "<x a='1'", "/>",
    ]), 0..30)) {
        for root in ["<testsuites>", "<robot>"] {
            let _ = read(None, format!("{root}{}", parts.concat()).as_bytes());
        }
    }

    /// A document cut anywhere is refused; its first part is never taken for the whole.
    #[test]
    fn a_document_cut_anywhere_is_refused(at in 0_usize..180) {
        let document = "<testsuites>\n<testsuite name='s'><testcase name='t' classname='c' time='1'><failure message='m'>x &amp; y</failure></testcase><testcase name='u'/></testsuite></testsuites>";
        prop_assume!(at < document.len());
        prop_assert!(read(None, &document.as_bytes()[..at]).is_err());
    }

    #[test]
    fn names_come_through_as_they_were_written(name in "[a-zA-Z0-9 <>&\"'.:-]{1,30}", message in "\\PC{1,40}") {
        prop_assume!(!name.trim().is_empty() && !message.trim().is_empty());
        let mut report = quick_junit::Report::new("r");
        let mut suite = quick_junit::TestSuite::new("s");
        let mut status = quick_junit::TestCaseStatus::non_success(quick_junit::NonSuccessKind::Failure);
        status.set_message(message.as_str());
        let mut case = quick_junit::TestCase::new(name.as_str(), status);
        case.set_classname("c");
        suite.add_test_case(case);
        report.add_test_suite(suite);
        let cases = read(None, report.to_string().unwrap().as_bytes()).unwrap();
        prop_assert_eq!(&cases[0].test.name, name.trim());
        let expected = quick_junit::XmlString::new(&message);
        prop_assert_eq!(&cases[0].message, expected.as_str().trim());
    }
}
