import HoldfastProtocol
import NIOCore

/// The line protocol between a drill and a client that it drives, one JSON object per line: docs/drills.md.
package enum LineProtocol {
    /// What a drill asks for.
    package enum Order: Sendable, Equatable {
        case connect(url: String, subscription: String)
        case wake
        case hide
        case close

        package var line: String {
            let text = JSONWriter.object { json in
                switch self {
                case .connect(let url, let subscription):
                    json.member("do", "connect")
                    json.member("url", url)
                    json.member("subscription", subscription)
                case .wake: json.member("do", "wake")
                case .hide: json.member("do", "hide")
                case .close: json.member("do", "close")
                }
            }
            return String(buffer: text)
        }

        /// - Returns: `nil` for what is no order, or one that is not known.
        package init?(line: String) {
            guard let json = try? JSONObject(parsing: ByteBuffer(string: line)) else { return nil }
            switch json["do"]?.string {
            case "connect"?:
                guard let url = json["url"]?.string, let subscription = json["subscription"]?.string else { return nil }
                self = .connect(url: url, subscription: subscription)
            case "wake"?: self = .wake
            case "hide"?: self = .hide
            case "close"?: self = .close
            default: return nil
            }
        }
    }

    /// What a client says in a line, as it goes out.
    package static func line(_ sighting: Sighting) -> String {
        let text = JSONWriter.object { json in
            switch sighting {
            case .ready: json.member("saw", "ready")
            case .message(let number):
                json.member("saw", "message")
                json.member("data", object: { json in json.member("n", number) })
            case .gap(let after, let next):
                json.member("saw", "gap")
                if let after { json.member("after", after) }
                if let next { json.member("next", next) }
            case .lost: json.member("saw", "lost")
            case .open(let transport):
                json.member("saw", "open")
                if let transport { json.member("transport", transport) }
            case .attempt(let transport):
                json.member("saw", "attempt")
                if let transport { json.member("transport", transport) }
            case .cut: json.member("saw", "cut")
            case .hidden: json.member("saw", "hidden")
            case .problem(let text):
                json.member("saw", "problem")
                json.member("text", text)
            case .failed(let text):
                json.member("saw", "failed")
                json.member("text", text)
            }
        }
        return String(buffer: text)
    }

    /// What a client has said.
    /// - Returns: `nil` for JSON that says nothing known, which is ignored; a failure for what is no JSON.
    package static func sighting(_ line: String) -> Sighting? {
        guard let json = try? JSONObject(parsing: ByteBuffer(string: line)) else {
            return .failed("it wrote a line that is no JSON object: \(line.prefix(120))")
        }
        switch json["saw"]?.string {
        case "ready"?: return .ready
        case "message"?:
            guard let number = json["data"].flatMap({ Sighting.number(in: $0.raw) }) else {
                return .failed("it saw a message without a whole number in data.n: \(line.prefix(120))")
            }
            return .message(number)
        case "gap"?: return .gap(after: json["after"]?.unsignedInteger, next: json["next"]?.unsignedInteger)
        case "lost"?: return .lost
        case "open"?: return .open(transport: json["transport"]?.string)
        case "attempt"?: return .attempt(transport: json["transport"]?.string)
        case "cut"?: return .cut
        case "hidden"?: return .hidden
        case "problem"?: return .problem(json["text"]?.string ?? "")
        case "failed"?: return .failed(json["text"]?.string ?? "it gave no reason")
        default: return nil
        }
    }
}
