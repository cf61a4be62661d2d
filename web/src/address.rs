//! Addresses of pages with what is chosen on them: filters live in the URL.

/// A path with the choices that are not empty.
pub(crate) fn with_choices(path: &str, choices: &[(&str, &str)]) -> String {
    let chosen = choices.iter().filter(|(_, value)| !value.is_empty());
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(chosen).finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_chosen_is_in_the_address() {
        assert_eq!(with_choices("/", &[("name", ""), ("verdict", "")]), "/");
        assert_eq!(with_choices("/", &[("name", "a&b=c é"), ("verdict", "")]), "/?name=a%26b%3Dc+%C3%A9");
    }
}
