/// WebSocket close codes (RFC 6455 §7.4) and those of our own (protocol.md, Close codes).
public struct CloseCode: RawRepresentable, Sendable, Hashable, CustomStringConvertible {
    public let rawValue: UInt16

    public init(rawValue: UInt16) {
        self.rawValue = rawValue
    }

    public static let normal = CloseCode(rawValue: 1000)
    public static let goingAway = CloseCode(rawValue: 1001)
    public static let protocolError = CloseCode(rawValue: 1002)
    public static let unsupportedData = CloseCode(rawValue: 1003)
    public static let invalidPayload = CloseCode(rawValue: 1007)
    public static let policyViolation = CloseCode(rawValue: 1008)
    public static let messageTooBig = CloseCode(rawValue: 1009)
    public static let internalError = CloseCode(rawValue: 1011)
    public static let serviceRestart = CloseCode(rawValue: 1012)
    public static let sessionReplaced = CloseCode(rawValue: 4000)
    public static let authenticationExpired = CloseCode(rawValue: 4001)
    public static let forbidden = CloseCode(rawValue: 4003)
    public static let slowConsumer = CloseCode(rawValue: 4008)
    public static let heartbeatTimeout = CloseCode(rawValue: 4009)
    public static let drain = CloseCode(rawValue: 4012)
    public static let rateLimited = CloseCode(rawValue: 4029)

    public var description: String { String(self.rawValue) }

    /// Whether an endpoint may send this code in a Close frame.
    ///
    /// RFC 6455 §7.4.2 reserves 0–999 and gives 1000–2999 to the standard, of which the registry has assigned those listed
    /// here (1004, 1005, 1006 and 1015 are reserved and must not be sent); 3000–4999 are for libraries and applications.
    public static func isValidOnWire(_ code: UInt16) -> Bool {
        switch code {
        case 1000...1003, 1007...1014, 3000...4999: true
        default: false
        }
    }
}
