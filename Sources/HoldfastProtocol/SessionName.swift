/// The two parts of a session's name, `HANDLE.SECRET` (protocol.md, Endpoints).
///
/// The handle may stand in URLs, logs and the server API. The secret proves that a resume comes from the session's own
/// client; it is never written anywhere but in the `hello` reply.
public struct SessionName: Sendable, Equatable {
    /// 64 random bits, written as 16 hexadecimal digits.
    public struct Handle: Sendable, Hashable, CustomStringConvertible {
        public let value: UInt64

        public init(_ value: UInt64) {
            self.value = value
        }

        /// `nil` unless `text` is 16 lower case hexadecimal digits.
        public init?(_ text: some StringProtocol) {
            guard let value = UInt64(hexadecimal: text) else { return nil }
            self.value = value
        }

        public var description: String { self.value.hexadecimal }
    }

    /// 128 random bits. Has no description on purpose, so that it cannot slip into a log.
    public struct Secret: Sendable {
        let high: UInt64
        let low: UInt64

        public init(high: UInt64, low: UInt64) {
            self.high = high
            self.low = low
        }

        public init?(_ text: some StringProtocol) {
            guard text.utf8.count == 32,
                let high = UInt64(hexadecimal: text.prefix(16)), let low = UInt64(hexadecimal: text.suffix(16))
            else { return nil }
            self.init(high: high, low: low)
        }

        /// Takes the same time wherever the two differ.
        public func matches(_ other: Secret) -> Bool {
            (self.high ^ other.high) | (self.low ^ other.low) == 0
        }
    }

    public let handle: Handle
    public let secret: Secret

    public init(handle: Handle, secret: Secret) {
        self.handle = handle
        self.secret = secret
    }

    /// - Parameter firstDigits: what the handle may begin with, as numbers from 0 to 15.
    public init(firstDigits: [UInt8] = [], using generator: inout some RandomNumberGenerator) {
        var handle: UInt64 = generator.next()
        if let digit = firstDigits.randomElement(using: &generator) {
            handle = handle & (.max >> 4) | UInt64(digit) << 60
        }
        self.handle = Handle(handle)
        self.secret = Secret(high: generator.next(), low: generator.next())
    }

    /// `nil` unless `text` has the form `HANDLE.SECRET`.
    public init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let handle = Handle(parts[0]), let secret = Secret(parts[1]) else { return nil }
        self.init(handle: handle, secret: secret)
    }

    /// `HANDLE.SECRET`, for the `hello` reply only.
    public var revealed: String { "\(self.handle).\(self.revealedSecret)" }

    /// The secret alone, for the `Authorization` header only.
    public var revealedSecret: String { "\(self.secret.high.hexadecimal)\(self.secret.low.hexadecimal)" }

    public static func == (left: SessionName, right: SessionName) -> Bool {
        left.handle == right.handle && left.secret.matches(right.secret)
    }
}

extension UInt64 {
    var hexadecimal: String {
        let digits = String(self, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    init?(hexadecimal text: some StringProtocol) {
        guard text.utf8.count == 16,
            text.utf8.allSatisfy({ $0.hexDigitValue != nil && !($0 >= 0x41 && $0 <= 0x46) }),
            let value = UInt64(text, radix: 16)
        else { return nil }
        self = value
    }
}
