// The border between Python and rounded arithmetic.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <tuple>

#include "bind.h"
#include "rounded_product.h"

namespace nb = nanobind;

namespace {

using Input = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Sizes = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;

// The largest sum of one number of each table.
int64_t reach(std::initializer_list<convsmith::Offsets> tables) {
    int64_t total = 0;
    for (const convsmith::Offsets& table : tables)
        total += table.size ? *std::max_element(table.data, table.data + table.size) : 0;
    return total;
}

// Whether the sums of one number of each table are from 0 to below `size`.
bool all_inside(const convsmith::Offsets& a, const convsmith::Offsets& b, int64_t size) {
    if (!a.size || !b.size) return true;
    const auto ends = std::minmax_element(a.data, a.data + a.size),
               others = std::minmax_element(b.data, b.data + b.size);
    return *ends.first + *others.first >= 0 && *ends.second + *others.second < size;
}

convsmith::GatheredProduct product_of(const Input& a, const Input& b, Output& out, const std::vector<Table>& tables,
                                      const Sizes& sizes) {
    if (tables.size() != 10) throw std::invalid_argument("a gathered product has 10 tables");
    convsmith::GatheredProduct p = {};
    p.a = a.data(), p.b = b.data(), p.out = out.data();
    p.a_size = a.shape(0), p.b_size = b.shape(0);
    convsmith::Offsets* fields[] = {&p.a_rows,  &p.a_terms, &p.b_columns, &p.column_y, &p.column_x,
                                    &p.b_terms, &p.term_y,  &p.term_x,    &p.out_rows, &p.out_columns};
    for (size_t i = 0; i < tables.size(); ++i) *fields[i] = {tables[i].data(), tables[i].shape(0)};
    std::tie(p.height, p.width, p.groups, p.a_group, p.b_group, p.out_group) = sizes;
    if (p.a_rows.size != p.out_rows.size || p.a_terms.size != p.b_terms.size || p.b_terms.size != p.term_y.size ||
        p.b_terms.size != p.term_x.size || p.b_columns.size != p.out_columns.size ||
        p.b_columns.size != p.column_y.size || p.b_columns.size != p.column_x.size)
        throw std::invalid_argument("tables of a gathered product differ in size");
    p.inside = all_inside(p.column_y, p.term_y, p.height) && all_inside(p.column_x, p.term_x, p.width);
    const int64_t last = p.groups - 1;
    if (p.groups > 0 && p.a_rows.size && p.a_terms.size && p.b_columns.size &&
        (reach({p.a_rows, p.a_terms}) + last * p.a_group >= int64_t(p.a_size) ||
         reach({p.out_rows, p.out_columns}) + last * p.out_group >= int64_t(out.shape(0))))
        throw std::invalid_argument("tables of a gathered product reach beyond their arrays");
    return p;
}

void rounded_product(const Input& a, const Input& b, Output out, const std::vector<Table>& tables, const Sizes& sizes,
                     const nb::tuple& sum, const std::optional<nb::tuple>& product, bool same_format, int order,
                     uint64_t block, int draw_width, std::tuple<uint32_t, uint32_t> key, int threads,
                     const std::string& level_name) {
    const convsmith::Level& level = convsmith::level_of(level_name);
    convsmith::RoundedArithmetic arithmetic = {};
    arithmetic.sum = convsmith::rounding_of<float>(sum);
    arithmetic.rounds_product = product.has_value();
    if (product) arithmetic.product = convsmith::rounding_of<float>(*product);
    arithmetic.same_format = same_format;
    arithmetic.order = convsmith::Order(order);
    arithmetic.block = block;
    arithmetic.draw_width = draw_width;
    std::tie(arithmetic.key[0], arithmetic.key[1]) = key;
    const convsmith::GatheredProduct gathered = product_of(a, b, out, tables, sizes);
    nb::gil_scoped_release release;
    convsmith::multiply_rounded(gathered, arithmetic, level, threads);
}

}  // namespace

void bind_rounded(nb::module_& m) {
    m.def("rounded_product", &rounded_product, nb::arg("a").noconvert(), nb::arg("b").noconvert(),
          nb::arg("out").noconvert(), nb::arg("tables"), nb::arg("sizes"), nb::arg("sum"), nb::arg("product").none(),
          nb::arg("same_format"), nb::arg("order"), nb::arg("block"), nb::arg("draw_width"), nb::arg("key"),
          nb::arg("threads"), nb::arg("level"),
          "Compute one gathered product of rounded multiplies and adds into out.");
}
