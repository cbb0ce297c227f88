import Testing

@testable import HoldfastProtocol

@Suite struct NameTableTests {
    private static let composed = "caf\u{E9}"
    private static let decomposed = "cafe\u{301}"

    @Test func namesThatLookAlikeAreTwo() {
        var table = NameTable<Int>()
        table[Self.composed] = 1
        table[Self.decomposed] = 2
        #expect(table.count == 2)
        #expect(table[Self.composed] == 1)
        #expect(table.removeValue(of: Self.decomposed) == 2)
        #expect(table[Self.decomposed] == nil)
        #expect(table.names == [Self.composed])
    }

    @Test func valuesAreChangedInPlace() {
        var table = NameTable<[Int]>()
        table["a"] = []
        table["a"]?.append(1)
        #expect(table["a"] == [1])
        table["a"] = nil
        #expect(table.isEmpty)
    }

    @Test func mergingKeepsWhatIsThere() {
        var table = NameTable<Int>()
        table["a"] = 1
        var other = NameTable<Int>()
        other["a"] = 2
        other["b"] = 3
        table.merge(other)
        #expect(table["a"] == 1)
        #expect(table["b"] == 3)
    }
}
