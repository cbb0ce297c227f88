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
    }

    var isMalformed: Bool { if case .malformed = self { true } else { false } }

    var object: JSONObject? { if case .object(let object) = self { object } else { nil } }

    /// - Parameter standard: what to say where the service says nothing.
    func refusal(_ standard: ProtocolError) -> Refusal? {
        switch self {
        case .unavailable: return Refusal(error: .serviceUnavailable, serviceError: nil, data: nil)
        case .malformed: return Refusal(error: .badAnswer, serviceError: nil, data: nil)
        case .object(let object):
            guard object["status"]?.string != "ok" else { return nil }
            // Falsy data goes out with an ok reply, but not with an error (socketshark.md §3.3).
            let data = object["data"].flatMap { $0.isFalsy ? nil : $0 }
            return Refusal(error: standard, serviceError: object["error"], data: data)
        }
    }

    /// `data` of an answer that says ok: absent where it is null.
    var data: JSONValue? { self.object?["data"].flatMap { $0.kind == .null ? nil : $0 } }
}
