//! ISA-L opened at run time: the second implementation that the parity bytes are compared with.

use std::ffi::{c_int, c_uchar};

use libloading::Library;

/// Names under which distributions ship the library.
const NAMES: [&str; 2] = ["libisal.so.2", "libisal.so"];

/// `void gf_gen_cauchy1_matrix(unsigned char *a, int m, int k)`, where `m` counts all rows.
type GenerateMatrix = unsafe extern "C" fn(*mut c_uchar, c_int, c_int);
/// `void ec_init_tables(int k, int rows, unsigned char *a, unsigned char *gftbls)`.
type InitTables = unsafe extern "C" fn(c_int, c_int, *const c_uchar, *mut c_uchar);
/// `void ec_encode_data(int len, int k, int rows, unsigned char *gftbls, unsigned char **data, unsigned char **coding)`.
type EncodeData = unsafe extern "C" fn(
    c_int,
    c_int,
    c_int,
    *const c_uchar,
    *const *const c_uchar,
    *const *mut c_uchar,
);

/// The functions of ISA-L's `erasure_code.h` that are used here.
pub(crate) struct Isal {
    generate_matrix: GenerateMatrix,
    init_tables: InitTables,
    encode_data: EncodeData,
    /// Keeps the functions mapped.
    _library: Library,
}

/// ISA-L's expanded tables for some output rows over `data` sources.
pub(crate) struct Tables {
    data: usize,
    rows: usize,
    bytes: Vec<u8>,
}

fn int(value: usize) -> c_int {
    c_int::try_from(value).expect("a small number")
}

impl Isal {
    /// `None` when the library is not installed.
    pub(crate) fn open() -> Option<Isal> {
        // SAFETY: ISA-L's initialisers only look at the processor's features.
        let library = NAMES
            .iter()
            .find_map(|name| unsafe { Library::new(*name) }.ok())?;
        // SAFETY: the types are those of erasure_code.h of ISA-L 2.30, whose interface the `.so.2` name stands for.
        unsafe {
            Some(Isal {
                generate_matrix: *library.get(b"gf_gen_cauchy1_matrix\0").ok()?,
                init_tables: *library.get(b"ec_init_tables\0").ok()?,
                encode_data: *library.get(b"ec_encode_data\0").ok()?,
                _library: library,
            })
        }
    }

    /// The whole generator matrix, `data + parity` rows of `data` coefficients.
    pub(crate) fn matrix(&self, data: usize, parity: usize) -> Vec<u8> {
        let mut matrix = vec![0; (data + parity) * data];
        // SAFETY: the matrix has as many rows and columns as are passed.
        unsafe { (self.generate_matrix)(matrix.as_mut_ptr(), int(data + parity), int(data)) };
        matrix
    }

    /// Tables for `rows` (each of `data` coefficients, one after the other).
    pub(crate) fn tables(&self, data: usize, rows: &[u8]) -> Tables {
        let count = rows.len() / data;
        let mut bytes = vec![0; 32 * data * count];
        // SAFETY: ec_init_tables writes 32 bytes for each coefficient.
        unsafe { (self.init_tables)(int(data), int(count), rows.as_ptr(), bytes.as_mut_ptr()) };
        Tables {
            data,
            rows: count,
            bytes,
        }
    }

    /// Writes the outputs of `tables` over `data`; all slices have one length.
    pub(crate) fn encode(&self, tables: &Tables, data: &[&[u8]], outputs: &mut [&mut [u8]]) {
        let length = data.first().map_or(0, |shard| shard.len());
        assert!(
            data.len() == tables.data && outputs.len() == tables.rows,
            "slices fit the tables"
        );
        assert!(data.iter().all(|shard| shard.len() == length), "one length");
        assert!(
            outputs.iter().all(|shard| shard.len() == length),
            "one length"
        );
        let sources: Vec<*const u8> = data.iter().map(|shard| shard.as_ptr()).collect();
        let targets: Vec<*mut u8> = outputs.iter_mut().map(|shard| shard.as_mut_ptr()).collect();
        // SAFETY: the numbers of pointers and their lengths were checked above.
        unsafe {
            (self.encode_data)(
                int(length),
                int(tables.data),
                int(tables.rows),
                tables.bytes.as_ptr(),
                sources.as_ptr(),
                targets.as_ptr(),
            );
        }
    }
}
