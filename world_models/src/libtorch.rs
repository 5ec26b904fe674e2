//! Devices: which there are, and making CUDA known to a program that was linked against the CPU half of libtorch.

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tch::Cuda;
pub use tch::Device;

/// The libtorch that this version is built against; its build refuses any other.
pub const VERSION: &str = "2.11.0";

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// A GPU where one can be used, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, or an error.
    Cuda,
}

/// What to do where CUDA is wanted and missing.
pub const CUDA_ADVICE: &str = "to use one, put the lib folder of torch 2.11.0 for CUDA into LD_LIBRARY_PATH";

/// A device that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("train.device = \"cuda\", but there is no usable GPU: {reason}; {CUDA_ADVICE}")]
pub struct DeviceError {
    /// What the dynamic loader or the library said.
    pub reason: String,
}

/// Registers CUDA with libtorch if its library can be found through the loader's path; says why not otherwise.
///
/// The program depends on `libtorch_cpu.so` only. Loading `libtorch_cuda.so` before the first tensor adds the CUDA
/// backend, so one build serves both.
///
/// # Errors
/// What the dynamic loader said, or that the library found no GPU.
pub fn load_cuda() -> Result<(), String> {
    if Cuda::is_available() {
        return Ok(());
    }
    // SAFETY: loading runs the library's initialisers; this is PyTorch's own library, of the version this program was
    // built against, and registering a backend is what its initialisers are for.
    #[expect(unsafe_code, reason = "dlopen runs initialisers")]
    let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
    match library {
        Ok(library) => {
            // Never unloaded: the registered backend lives in it.
            std::mem::forget(library);
            if Cuda::is_available() { Ok(()) } else { Err("libtorch_cuda.so was loaded, but finds no GPU".into()) }
        }
        Err(error) => Err(error.to_string()),
    }
}

impl DeviceChoice {
    /// The device, loading CUDA if it may be needed. Call before the first tensor.
    ///
    /// # Errors
    /// If CUDA was asked for and cannot be had.
    pub fn resolve(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(if load_cuda().is_ok() { Device::Cuda(0) } else { Device::Cpu }),
            Self::Cuda => load_cuda().map(|()| Device::Cuda(0)).map_err(|reason| DeviceError { reason }),
        }
    }
}

/// Gives libtorch `threads` threads for each operation.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(threads as i32);
}

/// What there is to say about the libtorch that runs in this program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct About {
    /// [`VERSION`].
    pub version: &'static str,
    /// The file it was loaded from, where the system tells.
    pub library: Option<PathBuf>,
    /// Threads for each operation.
    pub threads: usize,
    /// Whether it has oneDNN, which makes convolutions fast.
    pub onednn: bool,
    /// Whether it has MKL, which makes matrix products fast.
    pub mkl: bool,
}

/// Asks libtorch about itself.
#[must_use]
pub fn about() -> About {
    // Linux lists what a process has mapped; a line ends in the file's path.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"));
    let library = line.and_then(|line| Some(PathBuf::from(&line[line.find('/')?..])));
    About {
        version: VERSION,
        library,
        threads: tch::get_num_threads() as usize,
        onednn: tch::utils::has_mkldnn(),
        mkl: tch::utils::has_mkl(),
    }
}

/// How many GPUs there are, once [`load_cuda`] has succeeded.
#[must_use]
pub fn gpus() -> usize {
    usize::try_from(Cuda::device_count()).unwrap_or(0)
}
