//! Arguments and environment of a process as macOS gives them (`KERN_PROCARGS2`, sysctl(3)): the count of arguments, the path that was
//! executed, padding, the arguments, the environment. Parsing only, so it is tested on every system.

/// The arguments and the entries of the environment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ProcessArguments {
    pub(super) arguments: Vec<Vec<u8>>,
    /// Empty, too, where the system hides it: of programs that it protects (`CS_RESTRICT`), such as `/bin/sh`.
    pub(super) environment: Vec<Vec<u8>>,
}

impl ProcessArguments {
    /// `None` for what is too short to hold anything.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk::<{ size_of::<i32>() }>()?;
        let count = usize::try_from(i32::from_ne_bytes(*count)).ok()?;
        let path = rest.iter().position(|byte| *byte == 0)?;
        // The strings begin at the next multiple of a word.
        let from = path + rest[path..].iter().position(|byte| *byte != 0).unwrap_or(rest.len() - path);
        let mut words = rest[from..].split(|byte| *byte == 0).map(<[u8]>::to_vec);
        let arguments = words.by_ref().take(count).collect();
        // Padding follows the environment.
        let environment = words.take_while(|word| !word.is_empty()).collect();
        Some(Self { arguments, environment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: i32, rest: &[u8]) -> Vec<u8> {
        [&count.to_ne_bytes()[..], rest].concat()
    }

    #[test]
    fn arguments_and_environment_are_told_apart() {
        let raw = bytes(3, b"/bin/x\0\0\0\0x\0\0a b\0A=1\0B=\0\0\0stack=1\0");
        let parsed = ProcessArguments::parse(&raw).unwrap();
        let text = |words: &[Vec<u8>]| words.iter().map(|word| String::from_utf8(word.clone()).unwrap()).collect::<Vec<_>>();
        assert_eq!(text(&parsed.arguments), ["x", "", "a b"]);
        assert_eq!(text(&parsed.environment), ["A=1", "B="]);
    }

    #[test]
    fn what_is_cut_off_or_hidden_is_empty() {
        assert_eq!(ProcessArguments::parse(b""), None);
        assert_eq!(ProcessArguments::parse(&bytes(1, b"/bin/x")), None);
        assert_eq!(ProcessArguments::parse(&bytes(-1, b"/bin/x\0x\0")), None);
        let hidden = ProcessArguments::parse(&bytes(1, b"/bin/x\0\0x\0")).unwrap();
        assert_eq!((hidden.arguments.len(), hidden.environment.len()), (1, 0));
        let fewer = ProcessArguments::parse(&bytes(9, b"/bin/x\0\0")).unwrap();
        assert!(fewer.environment.is_empty());
    }
}
