import Testing

@testable import HoldfastProtocol

@Suite struct CloseCodeTests {
    /// RFC 6455 §7.4 and the registry, written down once more as ranges.
    @Test func allCodes() {
        var valid = 0
        for code in UInt16.min...UInt16.max {
            let expected: Bool
            if code < 1000 {
                expected = false
            } else if code < 3000 {
                // 1004 is reserved, 1005, 1006 and 1015 must not be sent.
                expected = code <= 1014 && ![1004, 1005, 1006].contains(code)
            } else {
                expected = code < 5000
            }
            if CloseCode.isValidOnWire(code) != expected { Issue.record("\(code)") }
            valid += expected ? 1 : 0
        }
        #expect(valid == 12 + 2000)
    }

    @Test func ownCodesMayBeSent() {
        for code: CloseCode in [
            .normal, .goingAway, .protocolError, .unsupportedData, .invalidPayload, .policyViolation, .messageTooBig,
            .internalError,
            .serviceRestart, .sessionReplaced, .authenticationExpired, .forbidden, .slowConsumer, .heartbeatTimeout,
            .drain, .rateLimited,
        ] {
            #expect(CloseCode.isValidOnWire(code.rawValue))
            #expect(code.description == "\(code.rawValue)")
        }
    }
}
