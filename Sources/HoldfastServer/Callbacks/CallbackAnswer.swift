import HoldfastProtocol
import NIOCore

/// What a service has said to a callback.
enum CallbackAnswer: Sendable {
    /// The service answered with a JSON object; what its `status` says is another matter.
    case object(JSONObject)
    /// No answer after all tries.
    case unavailable
    /// JSON by its content type, but no JSON object.
    case malformed

    /// What a callback that is not configured counts as.
    static let notConfigured = CallbackAnswer.object(JSONObject([.init(name: "status", value: JSONValue("ok"))]))

    /// Why the service has refused; `nil` if it has not.
    struct Refusal {
        let error: ProtocolError
        /// The service's own words, if it had any.
        let serviceError: JSONValue?
        /// To be passed on to the client.
        let data: JSONValue?

        init(_ error: ProtocolError, serviceError: JSONValue? = nil, data: JSONValue? = nil) {
            self.error = error
            self.serviceError = serviceError
            self.data = data
        }
    }

    /// Nobody said yes or no.
    var isUnavailable: Bool { if case .unavailable = self { true } else { false } }

    var object: JSONObject? { if case .object(let object) = self { object } else { nil } }

    /// - Parameter standard: what to say where the service says nothing.
    func refusal(_ standard: ProtocolError) -> Refusal? {
        switch self {
        case .unavailable: return Refusal(.serviceUnavailable)
        case .malformed: return Refusal(.badAnswer)
        case .object(let object):
            guard object["status"]?.string != "ok" else { return nil }
            // Falsy data goes out with an ok reply, but not with an error (socketshark.md §3.3).
            let data = object["data"].flatMap { $0.isFalsy ? nil : $0 }
            return Refusal(standard, serviceError: object["error"], data: data)
        }
    }

    /// Those of the members that the answer has, in memory of their own.
    func members(_ names: [String]) -> [JSONObject.Member] {
        names.compactMap { name in
            self.object?[name].map { JSONObject.Member(name: name, value: $0.copied()) }
        }
    }

    /// `data` of an answer that says ok: absent where it is null.
    var data: JSONValue? { self.object?["data"].flatMap { $0.kind == .null ? nil : $0 } }
}
