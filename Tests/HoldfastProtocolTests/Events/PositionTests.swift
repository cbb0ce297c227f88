import NIOCore
import Testing

@testable import HoldfastProtocol

@Suite struct PositionTests {
    @Test(arguments: [
        (#"{"epoch":"k3f9","offset":41}"#, Position(epoch: "k3f9", offset: 41) as Position?),
        (#"{"offset":0,"epoch":"","x":[]}"#, Position(epoch: "", offset: 0)),
        (#"{"epoch":"k"}"#, nil), (#"{"offset":1}"#, nil), (#"{"epoch":1,"offset":1}"#, nil),
        (#"{"epoch":"k","offset":-1}"#, nil),
        (#"{"epoch":"k","offset":"1"}"#, nil), (#"{"epoch":"k","offset":1.0}"#, nil), ("[]", nil), ("null", nil),
        ("41", nil),
    ])
    func reads(_ text: String, _ position: Position?) throws {
        #expect(Position(try JSONValue(parsing: ByteBuffer(string: text))) == position)
    }

    @Test func roundTrip() throws {
        let position = Position(epoch: "a\"b", offset: .max)
        let object = try JSONObject(parsing: JSONWriter.object { $0.member("p", position) })
        #expect(object["p"].flatMap { Position($0) } == position)
    }
}
