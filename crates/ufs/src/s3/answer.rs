//! What a store's refusal means, and how it is told to callers.

use super::wire::{self, ErrorBody};
use crate::UfsError;
use crate::failure::At;
use http::{HeaderMap, StatusCode};

/// A request that the store answered with an error.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// S3's code; empty when the answer had no body.
    pub(super) code: String,
    pub(super) message: String,
    /// Where the bucket is, when the store says so.
    pub(super) region: Option<String>,
}

/// Why a call failed after all its attempts.
#[derive(Clone, Debug)]
pub(super) enum CallError {
    /// The store refused.
    Refused(Refusal),
    /// It could not be reached, or not be asked.
    Other(UfsError),
}

impl Refusal {
    /// Reads an answer that is an error, by its status or by its body.
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
        let parsed: ErrorBody = wire::parse(body).unwrap_or_default();
        let region = headers
            .get("x-amz-bucket-region")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
            .or(parsed.region);
        Refusal { status, code: parsed.code, message: parsed.message, region }
    }

    pub(super) fn is(&self, code: &str) -> bool {
        self.code == code
    }

    /// No object of that key; never that the bucket is missing, as far as the store tells.
    pub(super) fn is_missing_key(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && matches!(self.code.as_str(), "" | "NoSuchKey" | "NotFound")
    }

    pub(super) fn is_failed_condition(&self) -> bool {
        self.status == StatusCode::PRECONDITION_FAILED
    }

    /// The same request may work when it is sent again.
    pub(super) fn is_passing(&self) -> bool {
        let by_code = matches!(
            self.code.as_str(),
            "SlowDown"
                | "SlowDownRead"
                | "SlowDownWrite"
                | "InternalError"
                | "ServiceUnavailable"
                | "RequestTimeout"
                | "OperationAborted"
                | "ConditionalRequestConflict"
                | "Throttling"
                | "ThrottlingException"
                | "RequestLimitExceeded"
                | "ServerBusy"
                | "XMinioServerNotInitialized"
                // Gateways over file systems say so also while another client removes the last object of the directory.
                | "ExistingObjectIsDirectory"
        );
        by_code
            || matches!(self.status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
            || (self.status == StatusCode::CONFLICT && self.code.is_empty())
    }

    /// The keys were refused, and others may not be.
    pub(super) fn is_about_keys(&self) -> bool {
        matches!(
            self.code.as_str(),
            "ExpiredToken"
                | "InvalidAccessKeyId"
                | "XAdminUserNotFound"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "SignatureDoesNotMatch"
        ) || (matches!(self.status.as_u16(), 400 | 403) && self.code.is_empty())
    }

    fn text(&self) -> String {
        match (self.code.as_str(), self.message.as_str()) {
            ("", "") => format!("the store answers {}", self.status),
            (code, "") => code.to_owned(),
            ("", message) => message.to_owned(),
            (code, message) => format!("{message} ({code})"),
        }
    }

    /// The error that callers see where nothing else is known of the refusal.
    pub(super) fn general(&self, at: At<'_>) -> UfsError {
        let text = self.text();
        match self.code.as_str() {
            "NoSuchBucket" => at.fail(
                UfsError::RootMissing,
                "the bucket does not exist",
                "check the bucket's name, the endpoint and the region",
            ),
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "ExpiredToken"
            | "TokenRefreshRequired"
            // Versitygw's.
            | "XAdminUserNotFound" => {
                at.fail(UfsError::Denied, format!("bad credentials: {text}"), "check the access key and its secret")
            }
            "RequestTimeTooSkewed" => at.fail(
                UfsError::Denied,
                format!("the clocks of this host and the store differ: {text}"),
                "set this host's clock",
            ),
            "AuthorizationHeaderMalformed"
            | "PermanentRedirect"
            | "TemporaryRedirect"
            | "IllegalLocationConstraintException" => self.wrong_region(at),
            "NoSuchUpload" => at.upload_gone(),
            // Gateways over file systems: a marker goes only with its last entry.
            "ErrDirectoryNotEmpty" | "DirectoryNotEmpty" => at.fail(UfsError::NotEmpty, text, ""),
            "ObjectParentIsFile" => at.fail(UfsError::NotADirectory, text, ""),
            "ExistingObjectIsDirectory" => at.fail(UfsError::IsADirectory, text, ""),
            // The third is versitygw's.
            "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" | "InsufficientCapacity" => {
                at.fail(UfsError::Unavailable, text, "free some space in the store")
            }
            _ => self.by_status(at, text),
        }
    }

    fn by_status(&self, at: At<'_>, text: String) -> UfsError {
        match self.status.as_u16() {
            _ if self.is_passing() => at.fail(UfsError::Unavailable, text, "try again later"),
            301 | 302 | 307 | 308 => self.wrong_region(at),
            400 if self.region.is_some() => self.wrong_region(at),
            401 | 403 => at.fail(
                UfsError::Denied,
                format!("access denied: {text}"),
                "check the credentials, the bucket's policy and this host's clock",
            ),
            404 if self.is_missing_key() => at.not_found(),
            404 => at.fail(UfsError::NotFound, text, "check the bucket, the endpoint and the credentials"),
            412 => at.changed("a condition did not hold"),
            416 => at.changed("the object is shorter than it was"),
            507 => at.fail(UfsError::Unavailable, text, "free some space in the store"),
            405 | 501 => at.fail(UfsError::Unsupported, text, ""),
            400..=499 => at.fail(UfsError::Invalid, text, ""),
            _ => at.fail(UfsError::Protocol, text, ""),
        }
    }

    fn wrong_region(&self, at: At<'_>) -> UfsError {
        let hint = match &self.region {
            Some(region) => format!("set the region to {region}"),
            None => "set region and endpoint to those of the bucket".to_owned(),
        };
        at.fail(UfsError::Invalid, format!("wrong region: {}", self.text()), hint)
    }
}

impl CallError {
    /// The error that callers see where nothing else is known of the failure.
    pub(super) fn general(self, at: At<'_>) -> UfsError {
        match self {
            CallError::Refused(refusal) => refusal.general(at),
            CallError::Other(error) => error,
        }
    }

    pub(super) fn refusal(&self) -> Option<&Refusal> {
        match self {
            CallError::Refused(refusal) => Some(refusal),
            CallError::Other(_) => None,
        }
    }
}
