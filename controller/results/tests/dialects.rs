//! Documents as real tools write them, read to the results that they mean.

use std::time::Duration;

use kennel_model::api::Outcome;
use kennel_results::{Format, TestCase, read};
use quick_junit::{NonSuccessKind, Report, TestCaseStatus, TestRerun, TestSuite};

#[track_caller]
fn cases(document: &str) -> Vec<TestCase> {
    read(None, document.as_bytes()).unwrap_or_else(|error| panic!("{error} in\n{document}"))
}

/// Class, name, parameters, attempt and outcome of each result.
#[track_caller]
fn told(document: &str) -> Vec<(String, String, String, u32, Outcome)> {
    let told = |case: TestCase| (case.test.class, case.test.name, case.test.parameters, case.attempt, case.outcome);
    cases(document).into_iter().map(told).collect()
}

fn row(
    class: &str,
    name: &str,
    parameters: &str,
    attempt: u32,
    outcome: Outcome,
) -> (String, String, String, u32, Outcome) {
    (class.into(), name.into(), parameters.into(), attempt, outcome)
}

#[test]
fn pytest_names_lose_their_parameters_and_keep_their_outcome() {
    let document = r#"<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="2" tests="5" time="0.123" timestamp="2026-11-23T10:00:00.000000+00:00" hostname="ci">
<testcase classname="tests.test_cart.TestCart" name="test_add[1-2-3]" time="0.001" />
<testcase classname="tests.test_cart" name="test_pay" time="1,234.5"><failure message="AssertionError: assert 3 == 4&#10; +  where 3 = add(1, 2)">def test_pay():
&gt;       assert add(1, 2) == 4
E       AssertionError</failure><system-out>paying &lt;b&gt;</system-out></testcase>
<testcase classname="tests.test_cart" name="test_later" time="0.0"><skipped type="pytest.skip" message="later">tests/test_cart.py:9: later</skipped></testcase>
<testcase classname="tests.test_cart" name="test_known" time="0.0"><skipped type="pytest.xfail" message="known bug" /></testcase>
<testcase classname="" name="tests.test_broken" time="0.0"><error message="collection failure">ImportError: no module named x</error></testcase>
</testsuite></testsuites>"#;
    assert_eq!(
        told(document),
        [
            row("tests.test_cart.TestCart", "test_add", "1-2-3", 1, Outcome::Passed),
            row("tests.test_cart", "test_pay", "", 1, Outcome::Failed),
            row("tests.test_cart", "test_later", "", 1, Outcome::Skipped),
            row("tests.test_cart", "test_known", "", 1, Outcome::Skipped),
            row("pytest", "tests.test_broken", "", 1, Outcome::Error),
        ]
    );
    let failed = &cases(document)[1];
    assert_eq!(failed.message, "AssertionError: assert 3 == 4\n +  where 3 = add(1, 2)");
    assert_eq!(failed.duration, Duration::from_millis(1_234_500));
    assert!(failed.detail.contains(">       assert add(1, 2) == 4"), "{}", failed.detail);
    assert!(failed.detail.ends_with("--- system-out ---\npaying <b>"), "{}", failed.detail);
    assert_eq!(cases(document)[2].message, "later");
}

#[test]
fn what_nextest_writes_is_read_with_every_retry() {
    let mut report = Report::new("nextest-run");
    let mut suite = TestSuite::new("shop::orders");
    let mut plain = quick_junit::TestCase::new("adds", TestCaseStatus::success());
    plain.set_classname("shop::orders").set_time(Duration::from_millis(250));
    let mut status = TestCaseStatus::success();
    let mut rerun = TestRerun::new(NonSuccessKind::Failure);
    rerun.set_message("panicked at 7").set_stack_trace("at a\nat b").set_time(Duration::from_millis(30));
    status.add_rerun(rerun);
    let mut flaky = quick_junit::TestCase::new("pays", status);
    flaky.set_classname("shop::orders");
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_message("first").set_type("test failure").set_description("thread panicked");
    let mut rerun = TestRerun::new(NonSuccessKind::Error);
    rerun.set_message("second");
    status.add_rerun(rerun);
    let mut broken = quick_junit::TestCase::new("ships", status);
    broken.set_classname("shop::orders").set_system_err("log");
    suite.add_test_cases([plain, flaky, broken]);
    report.add_test_suite(suite);
    let document = report.to_string().unwrap();
    assert_eq!(
        told(&document),
        [
            row("shop::orders", "adds", "", 1, Outcome::Passed),
            row("shop::orders", "pays", "", 1, Outcome::Failed),
            row("shop::orders", "pays", "", 2, Outcome::Passed),
            row("shop::orders", "ships", "", 1, Outcome::Failed),
            row("shop::orders", "ships", "", 2, Outcome::Error),
        ]
    );
    let cases = cases(&document);
    assert_eq!((cases[0].duration, cases[1].duration), (Duration::from_millis(250), Duration::from_millis(30)));
    assert_eq!((cases[1].message.as_str(), cases[1].detail.as_str()), ("panicked at 7", "at a\nat b"));
    assert_eq!(cases[3].detail, "thread panicked");
    assert!(cases[4].detail.contains("log"));
}

#[test]
fn surefire_reports_are_read_from_a_lone_suite() {
    let document = r#"<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="https://maven.apache.org/x.xsd" name="com.shop.CartTest" time="0.1" tests="2" errors="1" skipped="0" failures="0">
  <properties><property name="java.version" value="21"/></properties>
  <testcase name="adds(int, int)[2]" classname="com.shop.CartTest" time="0.01"/>
  <testcase name="pays" classname="com.shop.CartTest" time="0.02">
    <error message="null" type="java.lang.NullPointerException"><![CDATA[java.lang.NullPointerException: null
	at com.shop.Cart.pay(Cart.java:7)]]></error>
    <rerunError type="java.lang.NullPointerException"><stackTrace>again</stackTrace><system-out>o</system-out></rerunError>
  </testcase>
</testsuite>"#;
    assert_eq!(
        told(document),
        [
            row("com.shop.CartTest", "adds(int, int)", "2", 1, Outcome::Passed),
            row("com.shop.CartTest", "pays", "", 1, Outcome::Error),
            row("com.shop.CartTest", "pays", "", 2, Outcome::Error),
        ]
    );
    assert!(cases(document)[1].detail.contains("\n\tat com.shop.Cart.pay(Cart.java:7)"));
    assert_eq!(cases(document)[2].message, "again");
}

#[test]
fn suites_within_suites_name_the_class_where_no_one_else_does() {
    let document = r#"<testsuites name="Orders"><testsuite name="Cart"><testsuite name="Pay"><testcase name="Status is 200"/></testsuite><testcase name="Status is 200"/></testsuite>
<testsuite name="Ship"><testcase name="Status is 200" classname="Ship"><failure type="AssertionFailure">expected 200</failure></testcase></testsuite></testsuites>"#;
    assert_eq!(
        told(document),
        [
            row("Cart.Pay", "Status is 200", "", 1, Outcome::Passed),
            row("Cart", "Status is 200", "", 1, Outcome::Passed),
            row("Ship", "Status is 200", "", 1, Outcome::Failed),
        ]
    );
}

#[test]
fn tests_of_one_name_stay_apart_and_are_no_retries() {
    let document = r#"<testsuites><testsuite name="a"><testcase classname="C" name="t"/><testcase classname="C" name="t"><failure/></testcase></testsuite><testsuite name="b"><testcase classname="C" name="t"/></testsuite></testsuites>"#;
    assert_eq!(
        told(document),
        [
            row("C", "t", "", 1, Outcome::Passed),
            row("C", "t", "#2", 1, Outcome::Failed),
            row("C", "t", "in b", 1, Outcome::Passed),
        ]
    );
}

#[test]
fn googletest_marks_what_did_not_run_on_the_case_itself() {
    let document = r#"<testsuites tests="2" disabled="1"><testsuite name="Cart" tests="2"><testcase name="DISABLED_Adds" status="notrun" result="suppressed" time="0." classname="Cart"/><testcase name="Pays" status="run" result="completed" time="0.003" classname="Cart"><failure message="cart.cc:7&#x0A;Expected: 1" type=""></failure><failure message="cart.cc:9&#x0A;Expected: 2" type=""></failure></testcase></testsuite></testsuites>"#;
    assert_eq!(told(document)[0].4, Outcome::Skipped);
    assert_eq!(cases(document)[1].message, "cart.cc:7\nExpected: 1\ncart.cc:9\nExpected: 2");
}

const ROBOT_7: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<robot generator="Robot 7.1 (Python 3.12 on linux)" generated="2026-11-23T10:00:00.000000" rpa="false" schemaversion="5">
<suite id="s1" name="Shop" source="/tests/shop">
<suite id="s1-s1" name="Orders" source="/tests/shop/orders.robot">
<kw name="Open Shop" type="SETUP"><status status="PASS" start="2026-11-23T10:00:00.000000" elapsed="0.001"/></kw>
<test id="s1-s1-t1" name="Customer pays" line="7">
<kw name="Log" owner="BuiltIn"><msg time="2026-11-23T10:00:00.1" level="INFO">hello</msg><arg>hello</arg><status status="PASS" start="2026-11-23T10:00:00.1" elapsed="0.0001"/></kw>
<for flavor="IN"><iter><var name="${i}">1</var><kw name="Pay Order"><kw name="Should Be Equal" owner="BuiltIn"><msg time="2026-11-23T10:00:00.1" level="FAIL">503 != 200</msg><arg>${status}</arg><arg>200</arg><status status="FAIL" start="2026-11-23T10:00:00.1" elapsed="0.1">503 != 200</status></kw><arg>7</arg><status status="FAIL" start="2026-11-23T10:00:00.1" elapsed="0.1"/></kw><status status="FAIL" start="2026-11-23T10:00:00.1" elapsed="0.1"/></iter><var>${i}</var><value>1</value><status status="FAIL" start="2026-11-23T10:00:00.1" elapsed="0.1"/></for>
<kw name="Never"><status status="NOT RUN" start="2026-11-23T10:00:00.1" elapsed="0.0"/></kw>
<doc>About paying</doc><tag>smoke</tag><tag>pay</tag>
<status status="FAIL" start="2026-11-23T10:00:00.1" elapsed="0.25">503 != 200</status>
</test>
<test id="s1-s1-t2" name="Customer looks"><kw name="Log" owner="BuiltIn"><status status="PASS" start="x" elapsed="0.1"/></kw><status status="PASS" start="x" elapsed="0.5"/></test>
<test id="s1-s1-t3" name="Customer waits"><tag>robot:skip</tag><status status="SKIP" start="x" elapsed="0">not today</status></test>
<status status="FAIL" start="x" elapsed="1"/>
</suite><status status="FAIL" start="x" elapsed="1"/></suite>
<statistics><total><stat pass="1" fail="1" skip="1">All Tests</stat></total></statistics><errors><msg time="x" level="WARN">careful</msg></errors>
</robot>"#;

#[test]
fn robot_7_tells_tags_times_and_the_keywords_of_what_failed() {
    assert_eq!(
        told(ROBOT_7),
        [
            row("Shop.Orders", "Customer pays", "", 1, Outcome::Failed),
            row("Shop.Orders", "Customer looks", "", 1, Outcome::Passed),
            row("Shop.Orders", "Customer waits", "", 1, Outcome::Skipped),
        ]
    );
    let cases = cases(ROBOT_7);
    assert_eq!((cases[0].message.as_str(), cases[0].duration), ("503 != 200", Duration::from_millis(250)));
    assert_eq!(cases[0].tags, ["smoke", "pay"]);
    assert_eq!(
        cases[0].detail,
        "✓ BuiltIn.Log    hello\n✕ FOR\n  ✕ ITER\n    ✕ Pay Order    7\n      ✕ BuiltIn.Should Be Equal    ${status}    200\n        FAIL 503 != 200\n· Never"
    );
    assert_eq!((cases[1].detail.as_str(), cases[2].message.as_str()), ("", "not today"));
}

#[test]
fn robot_3_is_read_as_it_was() {
    let document = r#"<robot generator="Robot 3.1.2 (Python 3.6 on linux)" generated="20190101 10:00:00.000" rpa="false">
<suite id="s1" name="Orders" source="/t"><test id="s1-t1" name="Pays">
<kw name="Fail" library="BuiltIn"><doc>Fails</doc><arguments><arg>no money</arg></arguments><msg timestamp="20190101 10:00:00.100" level="FAIL">no money</msg><status status="FAIL" starttime="20190101 10:00:00.000" endtime="20190101 10:00:00.100"></status></kw>
<tags><tag>old</tag></tags><status status="FAIL" starttime="20190101 10:00:00.000" endtime="20190101 10:00:01.500" critical="yes">no money</status></test>
<kw name="Clean" type="teardown"><status status="PASS" starttime="N/A" endtime="N/A"></status></kw>
<status status="FAIL" starttime="20190101 10:00:00.000" endtime="20190101 10:00:02.000"></status></suite></robot>"#;
    let cases = cases(document);
    assert_eq!((cases[0].outcome, cases[0].duration), (Outcome::Failed, Duration::from_millis(1500)));
    assert_eq!(
        (cases[0].tags.as_slice(), cases[0].detail.as_str()),
        (&["old".to_owned()][..], "✕ BuiltIn.Fail    no money\n  FAIL no money")
    );
}

#[test]
fn a_failed_suite_tear_down_fails_its_tests_as_robot_itself_says() {
    let document = r#"<robot><suite name="S"><suite name="A"><test name="t1"><status status="PASS" elapsed="1"/></test><test name="t2"><status status="FAIL" elapsed="1">why</status></test>
<kw name="Clean" type="TEARDOWN"><msg level="FAIL">disk full</msg><status status="FAIL" elapsed="1">disk full</status></kw>
<status status="FAIL" elapsed="1">Suite teardown failed:
disk full</status></suite><suite name="B"><test name="t1"><status status="PASS" elapsed="1"/></test><status status="PASS"/></suite><status status="FAIL"/></suite></robot>"#;
    let cases = cases(document);
    assert_eq!(
        (cases[0].outcome, cases[0].message.as_str()),
        (Outcome::Failed, "Parent suite teardown failed:\ndisk full")
    );
    assert_eq!(cases[1].message, "why\n\nAlso parent suite teardown failed:\ndisk full");
    assert_eq!((cases[2].outcome, cases[2].test.class.as_str()), (Outcome::Passed, "S.B"));
}

#[test]
fn marks_and_blank_lines_before_a_document_do_not_matter() {
    for start in ["\u{feff}", "\n\n  ", "<!-- by hand -->", "<?xml version='1.0'?>\n<?style x?>"] {
        assert_eq!(
            cases(&format!("{start}<testsuites><testsuite><testcase name='t'/></testsuite></testsuites>")).len(),
            1
        );
    }
}

#[test]
fn bytes_that_are_no_text_are_shown_as_such() {
    let document =
        b"<testsuite><testcase name='t'><failure message='a \x1b[31m&#27;[1mred&#0x; \xff'/></testcase></testsuite>"
            .to_vec();
    assert!(read(None, document.as_slice()).is_err(), "`&#0x;` is no character");
    let text = String::from_utf8_lossy(&document).replace("&#0x;", "");
    assert_eq!(cases(&text)[0].message, "a red \u{FFFD}");
    let latin = b"<?xml version='1.0' encoding='ISO-8859-1'?><testsuite><testcase name='gr\xfc\xdfe'/></testsuite>";
    assert_eq!(read(None, latin.as_slice()).unwrap()[0].test.name, "grüße");
}

#[test]
fn a_named_format_is_held_to() {
    assert!(read(Some(Format::Robot), ROBOT_7.as_bytes()).is_ok());
    let error = read(Some(Format::Junit), ROBOT_7.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("the document is <robot>, not JUnit XML;"), "{error}");
}
