import Foundation

/// Address of a callback. Its credentials go into a header and are never printed.
public struct ServiceURL: Sendable, Hashable, CustomStringConvertible {
    /// Without credentials.
    public let text: String
    /// Value of the `Authorization` header, if the address had a user in it.
    let authorization: String?

    /// - Returns: `nil` unless it is an `http` or `https` address with a host.
    public init?(_ text: String) {
        guard let scheme = ["http://", "https://"].first(where: { text.lowercased().hasPrefix($0) }),
            text.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F })
        else { return nil }
        let rest = text.dropFirst(scheme.count)
        let authority = rest.prefix { !"/?#".contains($0) }
        let path = rest[authority.endIndex...].prefix { $0 != "#" }
        var host = authority
        if let at = authority.lastIndex(of: "@") {
            host = authority[authority.index(after: at)...]
            let parts = authority[..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            let decoded = parts.map { String($0).removingPercentEncoding ?? String($0) }
            let pair = "\(decoded[0]):\(decoded.count > 1 ? decoded[1] : "")"
            self.authorization = "Basic " + Data(pair.utf8).base64EncodedString()
        } else {
            self.authorization = nil
        }
        self.text = scheme + host + (path.hasPrefix("/") ? path : "/" + path)
        guard !host.isEmpty, !host.hasPrefix(":"), let url = URL(string: self.text), url.host?.isEmpty == false else {
            return nil
        }
    }

    public var description: String { self.text }
}
