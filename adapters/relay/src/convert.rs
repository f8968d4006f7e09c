//! Between the port's types and messages.

use bytes::Bytes;
use domain::Height;
use ledger::port::{Answer, FinalHeader, ProvedValue, ReadError, SubmitError};
use ledger::{Record, Rejection, StateProof};

use crate::v1;

pub(crate) fn from_read_error(error: &ReadError) -> v1::Failure {
    let (code, wanted, height) = match error {
        ReadError::NotReached { wanted, height } => ("not-reached", *wanted, *height),
        ReadError::Pruned(wanted) => ("pruned", *wanted, Height(0)),
        ReadError::Malformed(_) => ("malformed", Height(0), Height(0)),
        ReadError::Unavailable(_) => ("unavailable", Height(0), Height(0)),
    };
    v1::Failure {
        code: code.to_owned(),
        detail: error.to_string(),
        wanted: wanted.0,
        height: height.0,
        rejection: String::new(),
    }
}

pub(crate) fn from_submit_error(error: &SubmitError) -> v1::Failure {
    let (code, rejection) = match error {
        SubmitError::Rejected(rejection) => ("rejected", rejection.code()),
        SubmitError::Busy => ("busy", ""),
        SubmitError::Unavailable(_) => ("unavailable", ""),
    };
    v1::Failure {
        code: code.to_owned(),
        detail: error.to_string(),
        wanted: 0,
        height: 0,
        rejection: rejection.to_owned(),
    }
}

pub(crate) fn read_error(failure: v1::Failure) -> ReadError {
    match failure.code.as_str() {
        "not-reached" => ReadError::NotReached {
            wanted: Height(failure.wanted),
            height: Height(failure.height),
        },
        "pruned" => ReadError::Pruned(Height(failure.wanted)),
        "malformed" => ReadError::Malformed(failure.detail),
        _ => ReadError::Unavailable(failure.detail),
    }
}

pub(crate) fn submit_error(failure: v1::Failure) -> SubmitError {
    match failure.code.as_str() {
        "rejected" => SubmitError::Rejected(Rejection::Remote {
            code: Rejection::known_code(&failure.rejection),
            detail: failure.detail,
        }),
        "busy" => SubmitError::Busy,
        _ => SubmitError::Unavailable(failure.detail),
    }
}

pub(crate) fn from_final(last: &FinalHeader) -> v1::Final {
    v1::Final {
        header: last.header.encode().into(),
        certificate: last.certificate.encode().into(),
    }
}

pub(crate) fn final_header(last: Option<&v1::Final>) -> Result<FinalHeader, ReadError> {
    let last = last.ok_or_else(|| bad("no header"))?;
    Ok(FinalHeader {
        header: record(&last.header)?,
        certificate: record(&last.certificate)?,
    })
}

pub(crate) fn from_answer(answer: &Answer) -> v1::Values {
    let value = |value: &ProvedValue| v1::Value {
        value: value.value.clone(),
        proof: value.proof.encode().into(),
    };
    v1::Values {
        values: answer.values.iter().map(value).collect(),
        last: Some(from_final(&answer.last)),
    }
}

pub(crate) fn answer(values: v1::Values) -> Result<Answer, ReadError> {
    let value = |value: v1::Value| {
        let proof = StateProof::decode(&value.proof).map_err(bad)?;
        Ok(ProvedValue {
            value: value.value,
            proof,
        })
    };
    Ok(Answer {
        last: final_header(values.last.as_ref())?,
        values: values
            .values
            .into_iter()
            .map(value)
            .collect::<Result<_, ReadError>>()?,
    })
}

pub(crate) fn record<T: Record>(bytes: &Bytes) -> Result<T, ReadError> {
    T::decode(bytes).map_err(bad)
}

pub(crate) fn bad(why: impl std::fmt::Display) -> ReadError {
    ReadError::Unavailable(format!("a bad answer: {why}"))
}
