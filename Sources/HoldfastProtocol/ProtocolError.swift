/// An answer of `"status":"error"`: SocketShark's text for both dialects, a code for the native one.
public struct ProtocolError: Error, Sendable, Equatable {
    /// Text for people. Where SocketShark has the same error, it is its text to the letter (socketshark.md §3.2).
    public let text: String
    /// Code for programs.
    public let code: String
    /// What the limit was and what came, where a limit was the reason.
    public let exceeded: Exceeded?

    public struct Exceeded: Sendable, Equatable {
        public let limit: Int
        public let actual: Int

        public init(limit: Int, actual: Int) {
            self.limit = limit
            self.actual = actual
        }
    }

    public init(_ text: String, code: String, exceeded: Exceeded? = nil) {
        self.text = text
        self.code = code
        self.exceeded = exceeded
    }

    public static let badEvent = ProtocolError("Messages must be JSON and contain an event field.", code: "bad_event")
    public static let unknownEvent = ProtocolError("Event not found.", code: "unknown_event")
    public static let badSubscription = ProtocolError("Invalid subscription format.", code: "bad_subscription")
    public static let unknownService = ProtocolError("Invalid service.", code: "unknown_service")
    public static let alreadySubscribed = ProtocolError("Already subscribed.", code: "already_subscribed")
    public static let notSubscribed = ProtocolError("Subscription does not exist.", code: "not_subscribed")
    public static let authenticationRequired =
        ProtocolError("Authentication required.", code: "authentication_required")
    public static let unsupportedMethod =
        ProtocolError("Authentication method unsupported.", code: "unsupported_method")
    public static let noTicket = ProtocolError("Must specify ticket.", code: "no_ticket")
    public static let authenticationFailed =
        ProtocolError("Authentication failed.", code: "authentication_failed")
    public static let unauthorized = ProtocolError("Unauthorized.", code: "unauthorized")
    /// A service could not be reached, or the broker could not.
    public static let serviceUnavailable = ProtocolError("Service unavailable.", code: "service_unavailable")
    /// A service has refused without saying why.
    public static let refused = ProtocolError("Unhandled exception.", code: "refused")
    /// A service has answered with something that cannot be read.
    public static let badAnswer = ProtocolError("Unhandled exception.", code: "bad_answer")
    public static let alreadyOpen =
        ProtocolError("This transport has said hello before.", code: "already_open")
    public static let unsupportedVersion =
        ProtocolError("Unsupported protocol version; this gateway speaks version 1.", code: "unsupported_version")
    public static let badHello =
        ProtocolError("hello.resume must be {\"session\":\"HANDLE.SECRET\",\"received\":count}.", code: "bad_hello")
    public static let badSince =
        ProtocolError("since must be {\"epoch\":\"...\",\"offset\":number}.", code: "bad_since")
    public static let badCount = ProtocolError("received must be a count of events.", code: "bad_count")
    public static let badID =
        ProtocolError("id must be an integer or a string of at most 64 code points.", code: "bad_id")
    public static let unknownSession = ProtocolError("Unknown session.", code: "unknown_session")

    public static func limitExceeded(_ what: String, limit: Int, actual: Int) -> ProtocolError {
        ProtocolError(
            "\(what) is over the limit of \(limit): \(actual).",
            code: "limit_exceeded",
            exceeded: Exceeded(limit: limit, actual: actual)
        )
    }
}

extension JSONWriter {
    /// `status`, `error` and, for the native dialect, `code` with `limit` and `actual`.
    /// - Parameter serviceError: stands in place of the error's own text.
    public mutating func error(_ error: ProtocolError, serviceError: JSONValue? = nil, dialect: Dialect) {
        self.member("status", "error")
        if let serviceError { self.member("error", serviceError) } else { self.member("error", error.text) }
        guard dialect == .native else { return }
        self.member("code", error.code)
        if let exceeded = error.exceeded {
            self.member("limit", exceeded.limit)
            self.member("actual", exceeded.actual)
        }
    }
}

/// How a client speaks (protocol.md, Dialects).
public enum Dialect: String, Sendable, Hashable, CaseIterable {
    /// SocketShark's: the client never says `hello`.
    case plain
    /// The client's first event was `hello`.
    case native
}
