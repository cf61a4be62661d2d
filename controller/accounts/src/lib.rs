//! Who may do what: passwords, tokens, roles and single sign-on.
