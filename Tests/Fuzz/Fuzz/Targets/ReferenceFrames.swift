import NIOCore

@testable import HoldfastProtocol

/// RFC 6455 §5 read a second time, on the whole input, with arrays and without care for speed. Knows nothing of what the parser
/// shares with the rest: UTF-8 is checked by the standard library.
struct ReferenceFrames {
    private(set) var messages: [WebSocketMessage] = []
    /// A rule is broken in a frame that is all there.
    private(set) var isBroken = false
    /// The input ends inside a frame; it may be known to be wrong already.
    private(set) var isIncomplete = false

    private var rest: ArraySlice<UInt8>
    private let isMasked: Bool
    private let frame: Int
    private let message: Int
    /// Of a message of which fragments have come.
    private var kind: UInt8?
    private var payload: [UInt8] = []

    init(_ bytes: [UInt8], isMasked: Bool, frame: Int, message: Int) {
        self.rest = bytes[...]
        self.isMasked = isMasked
        self.frame = frame
        self.message = message
    }

    mutating func run() {
        while !self.rest.isEmpty, !self.isBroken {
            guard let (first, second, payload) = self.readFrame() else {
                self.isIncomplete = true
                return
            }
            guard self.isAllowed(first, second, payload.count) else {
                self.isBroken = true
                return
            }
            if self.take(first, payload) { return }
        }
    }

    /// - Returns: `nil` if the frame is not all there.
    private mutating func readFrame() -> (UInt8, UInt8, [UInt8])? {
        var rest = self.rest
        guard let first = rest.popFirst(), let second = rest.popFirst() else { return nil }
        let extended = second & 0x7F == 126 ? 2 : second & 0x7F == 127 ? 8 : 0
        guard rest.count >= extended + (second & 0x80 != 0 ? 4 : 0) else { return nil }
        var length = UInt64(second & 0x7F)
        if extended > 0 { length = rest.prefix(extended).reduce(0) { $0 << 8 | UInt64($1) } }
        rest = rest.dropFirst(extended)
        let mask = second & 0x80 != 0 ? Array(rest.prefix(4)) : [0, 0, 0, 0]
        if second & 0x80 != 0 { rest = rest.dropFirst(4) }
        // A length that is longer than it need be, or that is over a limit, is wrong whether or not the payload comes.
        let isWrong = extended == 2 && length < 126 || extended == 8 && length <= 0xFFFF
        let isControl = first & 0x08 != 0
        if isWrong || !isControl && length > UInt64(self.frame) { self.isBroken = true }
        guard !self.isBroken, UInt64(rest.count) >= length else { return nil }
        self.rest = rest.dropFirst(Int(length))
        return (first, second, rest.prefix(Int(length)).enumerated().map { $1 ^ mask[$0 % 4] })
    }

    private func isAllowed(_ first: UInt8, _ second: UInt8, _ length: Int) -> Bool {
        guard first & 0x70 == 0, (second & 0x80 != 0) == self.isMasked else { return false }
        switch first & 0x0F {
        case 0: return self.kind != nil && self.payload.count + length <= self.message
        case 1, 2: return self.kind == nil && length <= self.message
        case 8, 9, 10: return first & 0x80 != 0 && length <= 125
        default: return false
        }
    }

    /// - Returns: whether nothing more is read.
    private mutating func take(_ first: UInt8, _ payload: [UInt8]) -> Bool {
        let opcode = first & 0x0F
        switch opcode {
        case 9: self.messages.append(.ping(ByteBuffer(bytes: payload)))
        case 10: self.messages.append(.pong(ByteBuffer(bytes: payload)))
        case 8:
            self.close(payload)
            return true
        default:
            if opcode != 0 { (self.kind, self.payload) = (opcode, []) }
            self.payload += payload
            let isText = self.kind == 1
            let isFinal = first & 0x80 != 0
            // What can be no UTF-8 any more is refused before the rest has come.
            if isText, !Self.isUTF8(self.payload, mayGoOn: !isFinal) {
                self.isBroken = true
                return true
            }
            guard isFinal else { return false }
            self.kind = nil
            let whole = ByteBuffer(bytes: self.payload)
            self.messages.append(isText ? .text(whole) : .binary(whole))
        }
        return false
    }

    /// Of each code point's beginnings, one of these makes it whole.
    private static func isUTF8(_ bytes: [UInt8], mayGoOn: Bool) -> Bool {
        if String(validating: bytes, as: UTF8.self) != nil { return true }
        guard mayGoOn else { return false }
        return [0x80, 0xBF].contains { byte in
            (1...3).contains { String(validating: bytes + [UInt8](repeating: byte, count: $0), as: UTF8.self) != nil }
        }
    }

    private mutating func close(_ payload: [UInt8]) {
        guard !payload.isEmpty else { return self.messages.append(.close(code: nil, reason: "")) }
        let code = payload.prefix(2).reduce(0) { $0 << 8 | UInt16($1) }
        let isCode = payload.count >= 2 && CloseCode.isValidOnWire(code)
        guard isCode, let reason = String(validating: payload.dropFirst(2), as: UTF8.self) else {
            self.isBroken = true
            return
        }
        self.messages.append(.close(code: CloseCode(rawValue: code), reason: reason))
    }
}
