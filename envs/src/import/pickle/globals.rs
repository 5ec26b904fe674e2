//! The names that a pickle of tensors may mention, and what each stands for.

/// Number type of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are called as everywhere")]
pub enum Element {
    Bool,
    U8,
    I8,
    I16,
    I32,
    I64,
    F16,
    Bf16,
    F32,
    F64,
}

impl Element {
    fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "BoolStorage" => Self::Bool,
            "ByteStorage" => Self::U8,
            "CharStorage" => Self::I8,
            "ShortStorage" => Self::I16,
            "IntStorage" => Self::I32,
            "LongStorage" => Self::I64,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "FloatStorage" => Self::F32,
            "DoubleStorage" => Self::F64,
            _ => return None,
        })
    }

    /// Bytes of one.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::I16 | Self::F16 | Self::Bf16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    Storage(Element),
    RebuildTensor,
    Dict,
    TensorDict,
    MakeTensorDict,
    /// Called, it gives something that does not matter here.
    Opaque,
}

impl Global {
    /// All there are: those of torch 1.6 to 2.11 and of tensordict 0.1 to 0.15.
    pub fn of(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("collections", "OrderedDict") | ("tensordict.utils", "_StringOnlyDict") => Self::Dict,
            ("tensordict.tensordict" | "tensordict._td", "TensorDict") => Self::TensorDict,
            ("tensordict._reductions", "_make_td") => Self::MakeTensorDict,
            ("torch", "Size" | "device") | ("__builtin__" | "builtins", "set") => Self::Opaque,
            ("torch", class) => Self::Storage(Element::of_storage(class)?),
            _ => return None,
        })
    }
}
