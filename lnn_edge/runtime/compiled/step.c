/* The step of a stream as a C method, for steps that are compiled.

   `Core` has the calls that are made for every sample or row, and nothing else. A call is done here only where all is as
   usual: arrays of NumPy's own type and the right shape, a time that is a plain float, nobody else at work on the stream.
   Whatever else comes goes to the method in Python that does the same, `_slow_step`, and so does every sample that is
   refused: that method finds the same fault again and says what is wrong, so there is one text for each error.

   No method here lets go of the interpreter's lock between reading the stream's moment and replacing it, but for
   `_run_rows`, whose caller has the stream's token. So no signal's handler and no other thread can come in between.

   Limited API of Python 3.10 and NumPy's C API: one file for Python 3.10 to 3.13. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>
#include <structmember.h>
#define NPY_NO_DEPRECATED_API NPY_1_23_API_VERSION
#define NPY_TARGET_VERSION NPY_1_23_API_VERSION
#include <numpy/arrayobject.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 8, AXES = 4 }; /* inputs or outputs, and axes of one; a stream with more is stepped by Python */

typedef int (*advance_t)(void *work, const void *sample, const void *from, void *to);

/* What lay outside the range of a column. */
typedef struct {
    long long number;
    double farthest;
} beyond_t;

typedef struct {
    PyObject *name;
    int axes;
    npy_intp shape[AXES];
    Py_ssize_t size, columns;
    float *place;                  /* in the sample's memory */
    const float *low, *high;       /* legal values, for each number of a sample; or NULL */
    const float *lowest, *highest; /* the range seen at the export, for each number; or NULL */
    beyond_t *beyond;              /* by column */
} input_t;

/* What a state must keep to, number by number, in both places. */
typedef struct {
    Py_ssize_t size;
    const float *value[2], *low, *high;
} bound_t;

typedef struct {
    PyObject_HEAD
    PyObject *held;   /* the stream's token */
    PyObject *moment; /* what the stream stood at when Python last asked or told */
    int moved;        /* whether the stream has gone on since; then these are newer than `moment`: */
    int there;        /* whether the state lies in a place, so that a step may begin here */
    int place;
    int timed; /* 0: no time of the last sample is known; 1: it is `last_s`; -1: it is no plain float */
    double last_s;
    long long steps;

    advance_t advance; /* NULL: every step goes to Python */
    void *work, *sample, *places[2];
    long long unroll;
    int inputs;
    input_t input[MOST];
    float *dt; /* NULL with fixed time */
    Py_ssize_t dts;
    double shortest_s, longest_s, period_s;
    int reuse, outputs;
    Py_ssize_t output_bytes; /* of all outputs together, which lie first in a place */
    PyObject *results[2];    /* what a step with `reuse` returns */
    PyObject *names[MOST];   /* of outputs */
    PyArrayObject *output[2][MOST];
    PyObject *kept; /* what owns the memory above */

    int bounds; /* of states, for steps under guard */
    bound_t bound[MOST];
    PyObject *bounded; /* what owns their memory */
    PyObject *mark;    /* of the newest step under guard, with which it is taken back; and where the stream stood before: */
    int back_place, back_timed;
    double back_last_s;
    long long back_steps;
} Core;

static PyObject *slow_name;          /* "_slow_step" */
static PyArray_Descr *float32, *float64;
static PyTypeObject *number64;       /* numpy.float64 */

/* ---- the moment ------------------------------------------------------------------------------------------------ */

static PyObject *moment_get(Core *s, void *closure)
{
    (void)closure;
    while (s->moved) { /* a finalizer may step or reset the stream while the tuple is made */
        const long long steps = s->steps;
        PyObject *before = s->moment, *constants = PyTuple_GetItem(before, 3), *now;
        Py_INCREF(before); /* with which the constants stay, and its address is that of no other moment */
        if (s->timed) now = Py_BuildValue("(idLOOO)", s->place, s->last_s, steps, constants, Py_True, Py_None);
        else now = Py_BuildValue("(iOLOOO)", s->place, Py_None, steps, constants, Py_True, Py_None);
        if (now && s->moved && s->moment == before && s->steps == steps) {
            s->moment = now;
            s->moved = 0;
            Py_DECREF(before); /* the stream's own */
        } else
            Py_XDECREF(now);
        Py_DECREF(before);
        if (!now) return NULL;
    }
    if (!s->moment) {
        PyErr_SetString(PyExc_AttributeError, "_now");
        return NULL;
    }
    Py_INCREF(s->moment);
    return s->moment;
}

/* Replace what the stream stands at, or change nothing. */
static int moment_put(Core *s, PyObject *now)
{
    PyObject *place, *last, *number, *before;
    long long steps;
    if (!now || !PyTuple_Check(now) || PyTuple_Size(now) != 6) {
        PyErr_SetString(PyExc_TypeError, "a moment is a tuple of six");
        return -1;
    }
    place = PyTuple_GetItem(now, 0), last = PyTuple_GetItem(now, 1), number = PyTuple_GetItem(now, 2);
    if (!PyLong_Check(number)) { /* which needs nobody's `__index__` */
        PyErr_SetString(PyExc_TypeError, "the third of a moment is a number of steps");
        return -1;
    }
    steps = PyLong_AsLongLong(number);
    if (steps == -1 && PyErr_Occurred()) return -1;
    before = s->moment;
    s->there = PyLong_CheckExact(place);
    s->place = s->there && PyObject_IsTrue(place) == 1;
    s->timed = last == Py_None ? 0 : PyFloat_CheckExact(last) ? 1 : -1;
    s->last_s = s->timed == 1 ? PyFloat_AsDouble(last) : 0.0;
    s->steps = steps;
    s->moved = 0;
    Py_INCREF(now);
    s->moment = now;
    Py_XDECREF(before);
    Py_CLEAR(s->mark); /* there is no step left to take back */
    return 0;
}

static int moment_set(Core *s, PyObject *now, void *closure)
{
    (void)closure;
    return moment_put(s, now);
}

/* ---- what lies outside the ranges ------------------------------------------------------------------------------ */

static int any_outside(const float *x, const float *low, const float *high, Py_ssize_t size)
{
    int found = 0;
    for (Py_ssize_t i = 0; i < size; ++i) found |= (x[i] < low[i]) | (x[i] > high[i]);
    return found;
}

static void count_outside(const input_t *in, const float *x, beyond_t *beyond)
{
    if (!in->lowest || !any_outside(x, in->lowest, in->highest, in->size)) return;
    for (Py_ssize_t i = 0; i < in->size; ++i) {
        const double low = in->lowest[i], high = in->highest[i], v = x[i];
        beyond_t *b = beyond + i % in->columns;
        if (!(v < low || v > high)) continue;
        const double far = low - v > v - high ? low - v : v - high;
        const double most = low - b->farthest > b->farthest - high ? low - b->farthest : b->farthest - high;
        if (!b->number++ || far > most) b->farthest = v;
    }
}

/* Counts as (input, column, number, value farthest outside), of columns that have some. */
static PyObject *counted(Core *s, PyObject *unused)
{
    (void)unused;
    PyObject *all = PyList_New(0);
    for (int k = 0; all && k < s->inputs; ++k)
        for (Py_ssize_t c = 0; s->input[k].beyond && c < s->input[k].columns; ++c) {
            const beyond_t b = s->input[k].beyond[c];
            if (!b.number) continue;
            PyObject *one = Py_BuildValue("(inLd)", k, c, b.number, b.farthest);
            if (!one || PyList_Append(all, one)) Py_CLEAR(all);
            Py_XDECREF(one);
            if (!all) return NULL;
        }
    return all;
}

/* ---- one sample ------------------------------------------------------------------------------------------------ */

static int fits(const input_t *in, PyObject *value)
{
    if (Py_TYPE(value) != &PyArray_Type) return 0;
    PyArrayObject *a = (PyArrayObject *)value;
    if (PyArray_NDIM(a) != in->axes || !(PyArray_FLAGS(a) & NPY_ARRAY_ALIGNED)) return 0;
    if (PyArray_DESCR(a) != float32 && PyArray_DESCR(a) != float64) return 0;
    for (int k = 0; k < in->axes; ++k)
        if (PyArray_DIM(a, k) != in->shape[k]) return 0;
    return in->axes == 1 || (PyArray_FLAGS(a) & NPY_ARRAY_C_CONTIGUOUS);
}

/* A list of plain floats and nothing else, put in its place; or 0. */
static int put_list(const input_t *in, PyObject *list)
{
    if (!PyList_CheckExact(list) || in->axes != 1 || PyList_Size(list) != in->shape[0]) return 0;
    for (Py_ssize_t i = 0; i < in->size; ++i) {
        PyObject *number = PyList_GetItem(list, i);
        if (!PyFloat_CheckExact(number)) return 0;
        in->place[i] = (float)PyFloat_AsDouble(number);
    }
    return 1;
}

static void put(const input_t *in, PyArrayObject *a)
{
    const char *from = PyArray_DATA(a);
    const npy_intp step = PyArray_FLAGS(a) & NPY_ARRAY_C_CONTIGUOUS ? PyArray_ITEMSIZE(a) : PyArray_STRIDE(a, 0);
    float *to = in->place;
    if (PyArray_DESCR(a) == float32) {
        if (step == sizeof(float)) memcpy(to, from, (size_t)in->size * sizeof(float));
        else
            for (Py_ssize_t i = 0; i < in->size; ++i) to[i] = *(const float *)(from + i * step);
    } else
        for (Py_ssize_t i = 0; i < in->size; ++i) to[i] = (float)*(const double *)(from + i * step);
}

/* The arrays of a sample, borrowed, or 0. */
static int arrays_of(Core *s, PyObject *x, PyArrayObject **arrays)
{
    if (s->inputs == 1 && fits(&s->input[0], x)) {
        arrays[0] = (PyArrayObject *)x;
        return 1;
    }
    if (s->inputs == 1 || !PyDict_CheckExact(x) || PyDict_Size(x) != s->inputs) return 0;
    Py_ssize_t place = 0;
    int found = 0;
    PyObject *key, *value;
    while (PyDict_Next(x, &place, &key, &value)) { /* not by look-ups: a key's own comparison could run anything */
        int k = 0;
        while (k < s->inputs && key != s->input[k].name) ++k;
        if (k == s->inputs) { /* another object of the same text */
            if (!PyUnicode_CheckExact(key)) return 0;
            for (k = 0; k < s->inputs && PyUnicode_Compare(key, s->input[k].name); ++k) {}
        }
        if (k == s->inputs || !fits(&s->input[k], value)) return 0;
        arrays[k] = (PyArrayObject *)value;
        ++found;
    }
    return found == s->inputs;
}

/* The seconds since the last sample, and the time of this one: 0 where Python must look at them. */
static int time_of(Core *s, PyObject *dt, PyObject *t, double *dt_s, double *now_s, int *timed)
{
    if (dt == Py_None) dt = NULL;
    if (t == Py_None) t = NULL;
    if (!s->dt) return !dt && !t;
    if (!dt == !t || s->timed < 0) return 0;
    if (t) {
        if (!PyFloat_CheckExact(t) && Py_TYPE(t) != number64) return 0;
        *now_s = PyFloat_AsDouble(t), *timed = 1;
        *dt_s = s->timed ? *now_s - s->last_s : s->period_s;
        if (!(*now_s - *now_s == 0.0) || (s->timed && !(*now_s > s->last_s))) return 0;
    } else {
        if (!PyFloat_CheckExact(dt) && Py_TYPE(dt) != number64) return 0;
        *dt_s = PyFloat_AsDouble(dt);
        *timed = s->timed, *now_s = s->last_s + *dt_s;
    }
    return *dt_s >= s->shortest_s && *dt_s <= s->longest_s;
}

/* New arrays for a result: one, or a dict of them. */
static PyObject *fresh(const Core *s, PyArrayObject **arrays)
{
    PyObject *all = s->outputs > 1 ? PyDict_New() : NULL;
    if (s->outputs > 1 && !all) return NULL;
    for (int k = 0; k < s->outputs; ++k) {
        PyArrayObject *like = s->output[0][k];
        PyObject *one = PyArray_SimpleNew(PyArray_NDIM(like), PyArray_DIMS(like), NPY_FLOAT);
        if (one && all && PyDict_SetItem(all, s->names[k], one)) Py_CLEAR(one);
        if (!one) {
            Py_XDECREF(all);
            return NULL;
        }
        arrays[k] = (PyArrayObject *)one;
        if (!all) return one;
        Py_DECREF(one); /* the dict has it */
    }
    return all;
}

/* NaN is in no range. */
static int all_within(const float *x, const float *low, const float *high, Py_ssize_t size)
{
    int found = 1;
    for (Py_ssize_t i = 0; i < size; ++i) found &= (x[i] >= low[i]) & (x[i] <= high[i]);
    return found;
}

/* Whether the states in a place keep to their bounds. */
static int within_bounds(const Core *s, int place)
{
    int found = 1;
    for (int k = 0; k < s->bounds && found; ++k)
        found = all_within(s->bound[k].value[place], s->bound[k].low, s->bound[k].high, s->bound[k].size);
    return found;
}

/* One step, or NULL without an error where Python must do it. With a `mark` it is one under guard: its state keeps to the
   bounds, its result is read-only, and `_back` takes it back. */
static PyObject *fast_step(Core *s, PyObject *x, PyObject *dt, PyObject *t, PyObject *mark)
{
    PyArrayObject *arrays[MOST], *outputs[MOST];
    double dt_s = 0.0, now_s = 0.0;
    int timed = 0;
    if (!s->advance) return NULL;
    PyObject *result = NULL, *before = NULL;
    if (!s->reuse && !(result = fresh(s, outputs))) return NULL;
    /* From here on nothing runs that is not in this file. */
    const int from = s->place, to = 1 - from;
    if (!s->there || !s->held || PyDict_Size(s->held)) goto python;
    const int listed = s->inputs == 1 && put_list(&s->input[0], x);
    if ((!listed && !arrays_of(s, x, arrays)) || !time_of(s, dt, t, &dt_s, &now_s, &timed)) goto python;
    for (int k = 0; k < s->inputs; ++k) {
        const input_t *in = &s->input[k];
        if (!listed) put(in, arrays[k]);
        if (in->low && any_outside(in->place, in->low, in->high, in->size)) goto python;
    }
    for (Py_ssize_t k = 0; k < s->dts; ++k) s->dt[k] = (float)dt_s;
    if (s->advance(s->work, s->sample, s->places[from], s->places[to])) goto python;
    if (mark) {
        if (s->timed < 0 || !within_bounds(s, to)) goto python;
        s->back_place = from, s->back_timed = s->timed, s->back_last_s = s->last_s, s->back_steps = s->steps;
        before = s->mark, s->mark = mark;
        Py_INCREF(mark);
    }
    for (int k = 0; k < s->inputs; ++k) count_outside(&s->input[k], s->input[k].place, s->input[k].beyond);
    s->moved = 1, s->place = to, s->steps += s->unroll, s->timed = timed, s->last_s = now_s;
    if (s->reuse) {
        Py_INCREF(s->results[to]);
        return s->results[to];
    }
    for (int k = 0; k < s->outputs; ++k) {
        memcpy(PyArray_DATA(outputs[k]), PyArray_DATA(s->output[to][k]), (size_t)PyArray_NBYTES(outputs[k]));
        if (mark) PyArray_CLEARFLAGS(outputs[k], NPY_ARRAY_WRITEABLE);
    }
    Py_XDECREF(before); /* all is done, whatever goes with it */
    return result;
python:
    Py_XDECREF(result);
    return NULL;
}

static PyObject *python_step(Core *s, PyObject *const *given, Py_ssize_t count, PyObject *names)
{
    const Py_ssize_t named = names ? PyTuple_Size(names) : 0;
    PyObject *result = NULL, *method = PyObject_GetAttr((PyObject *)s, slow_name);
    PyObject *places = PyTuple_New(count), *words = named ? PyDict_New() : NULL;
    if (!method || !places || (named && !words)) goto end;
    for (Py_ssize_t k = 0; k < count; ++k) {
        Py_INCREF(given[k]);
        PyTuple_SetItem(places, k, given[k]);
    }
    for (Py_ssize_t k = 0; k < named; ++k)
        if (PyDict_SetItem(words, PyTuple_GetItem(names, k), given[count + k])) goto end;
    result = PyObject_Call(method, places, words);
end:
    Py_XDECREF(method);
    Py_XDECREF(places);
    Py_XDECREF(words);
    return result;
}

static PyObject *step(Core *s, PyObject *const *given, Py_ssize_t count, PyObject *names)
{
    const Py_ssize_t named = names ? PyTuple_Size(names) : 0;
    PyObject *x = count == 1 ? given[0] : NULL, *dt = NULL, *t = NULL, *result;
    for (Py_ssize_t k = 0; x && k < named; ++k) {
        PyObject *name = PyTuple_GetItem(names, k);
        if (PyUnicode_CompareWithASCIIString(name, "dt_s") == 0) dt = given[count + k];
        else if (PyUnicode_CompareWithASCIIString(name, "t_s") == 0) t = given[count + k];
        else x = NULL;
    }
    result = x ? fast_step(s, x, dt, t, NULL) : NULL;
    return result || PyErr_Occurred() ? result : python_step(s, given, count, names);
}

/* ---- under guard ----------------------------------------------------------------------------------------------- */

/* _guarded(mark, x, dt_s): one sample, an array and a time that are as usual, whose step keeps the state within the bounds
   of `_bound`. Its result, read-only; or None where the guard must look at it, and nothing has changed. Until the next
   step `_back(mark)` takes it back: `mark` is an object that no other step had. */
static PyObject *guarded(Core *s, PyObject *const *given, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "a mark, a sample and its dt_s");
        return NULL;
    }
    PyObject *result = s->reuse ? NULL : fast_step(s, given[1], given[2], NULL, given[0]);
    if (result || PyErr_Occurred()) return result;
    Py_RETURN_NONE;
}

/* _back(mark): take the step with this mark back, if it is the newest. */
static PyObject *back(Core *s, PyObject *mark)
{
    if (s->mark == mark && s->steps == s->back_steps + s->unroll) {
        s->place = s->back_place, s->timed = s->back_timed, s->last_s = s->back_last_s, s->steps = s->back_steps;
        s->moved = 1;
        Py_CLEAR(s->mark);
    }
    Py_RETURN_NONE;
}

/* _practise(x): a step that does not count, so that the next one finds its memory in the caches. It writes where every step
   writes before it counts, and where one that is refused has written: the sample, dt, and the place that holds no state. */
static PyObject *practise(Core *s, PyObject *x)
{
    PyArrayObject *arrays[MOST];
    if (!s->advance || !s->there || !s->held || PyDict_Size(s->held) || !arrays_of(s, x, arrays)) Py_RETURN_NONE;
    for (int k = 0; k < s->inputs; ++k) put(&s->input[k], arrays[k]);
    for (Py_ssize_t k = 0; k < s->dts; ++k) s->dt[k] = (float)s->period_s;
    s->advance(s->work, s->sample, s->places[s->place], s->places[1 - s->place]);
    Py_CLEAR(s->mark); /* what it would take the stream back to is gone */
    Py_RETURN_NONE;
}

static int is_array(PyObject *value, int type, npy_intp numbers);

/* _bound(bounds): states as (in the first place, in the second, low, high), arrays of float32 of one size. */
static PyObject *bound(Core *s, PyObject *bounds)
{
    bound_t found[MOST];
    if (!PyTuple_Check(bounds) || PyTuple_Size(bounds) > MOST) goto wrong;
    const int count = (int)PyTuple_Size(bounds);
    for (int k = 0; k < count; ++k) {
        PyObject *row = PyTuple_GetItem(bounds, k), *own[4];
        if (!PyTuple_Check(row) || PyTuple_Size(row) != 4) goto wrong;
        for (int i = 0; i < 4; ++i) own[i] = PyTuple_GetItem(row, i);
        const npy_intp size = PyArray_Check(own[0]) ? PyArray_SIZE((PyArrayObject *)own[0]) : -1;
        const float **side[4] = {&found[k].value[0], &found[k].value[1], &found[k].low, &found[k].high};
        found[k].size = size;
        for (int i = 0; i < 4; ++i) {
            if (size < 0 || !is_array(own[i], NPY_FLOAT, size)) goto wrong;
            *side[i] = PyArray_DATA((PyArrayObject *)own[i]);
        }
    }
    PyObject *before = s->bounded;
    Py_INCREF(s->bounded = bounds);
    memcpy(s->bound, found, sizeof found);
    s->bounds = count;
    Py_XDECREF(before);
    Py_RETURN_NONE;
wrong:
    PyErr_SetString(PyExc_TypeError, "bounds are tuples of four arrays of float32, of one size");
    return NULL;
}

/* ---- a recording ----------------------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The arrays that a recording is in. */
typedef struct {
    const float *x[MOST];
    const double *dt;
    float *y;
    beyond_t *beyond[MOST];
} rows_t;

/* Call `k`; whether it was done. */
static int row(const Core *s, const rows_t *r, Py_ssize_t k)
{
    const int from = k & 1, to = 1 - from;
    for (int i = 0; i < s->inputs; ++i) {
        const input_t *in = &s->input[i];
        memcpy(in->place, r->x[i] + k * in->size, (size_t)in->size * sizeof(float));
        if (in->low && any_outside(in->place, in->low, in->high, in->size)) return 0;
    }
    for (Py_ssize_t i = 0; i < s->dts; ++i) s->dt[i] = (float)r->dt[k];
    if (s->advance(s->work, s->sample, s->places[from], s->places[to])) return 0;
    memcpy((char *)r->y + k * s->output_bytes, s->places[to], (size_t)s->output_bytes);
    for (int i = 0; i < s->inputs; ++i) count_outside(&s->input[i], s->input[i].place, r->beyond[i]);
    return 1;
}

/* All calls until one is refused; signals are looked for about every ten milliseconds. -1: one has raised. */
static Py_ssize_t rows(const Core *s, const rows_t *r, Py_ssize_t count)
{
    Py_ssize_t k = 0, more = 1;
    int done = 1;
    while (k < count && done) {
        const double begin = seconds();
        const Py_ssize_t end = count - k < more ? count : k + more;
        Py_BEGIN_ALLOW_THREADS
        while (k < end && (done = row(s, r, k))) ++k;
        Py_END_ALLOW_THREADS
        if (seconds() - begin < 0.005) more *= 2;
        else if (more > 1) more /= 2;
        if (PyErr_CheckSignals()) return -1;
    }
    return k;
}

static int is_array(PyObject *value, int type, npy_intp numbers)
{
    PyArrayObject *a = (PyArrayObject *)value;
    return PyArray_Check(value) && PyArray_TYPE(a) == type && PyArray_ISCARRAY_RO(a) && PyArray_SIZE(a) == numbers;
}

/* _run_rows(xs, dt_s, t_s, y): the state lies in place 0, and the caller has the token. The number of calls that were
   done; where it is all of them, the stream stands after them. `t_s` is the time of the last sample, or None. */
static PyObject *run_rows(Core *s, PyObject *given)
{
    PyObject *xs, *dts, *last, *y;
    rows_t r = {0};
    if (!PyArg_ParseTuple(given, "O!OOO", &PyTuple_Type, &xs, &dts, &last, &y)) return NULL;
    if (!s->advance || PyTuple_Size(xs) != s->inputs || !PyArray_Check(y) || !PyArray_NDIM((PyArrayObject *)y)) goto wrong;
    const Py_ssize_t count = PyArray_DIM((PyArrayObject *)y, 0);
    if (!is_array(y, NPY_FLOAT, count * (s->output_bytes / (Py_ssize_t)sizeof(float)))) goto wrong;
    r.y = PyArray_DATA((PyArrayObject *)y);
    for (int k = 0; k < s->inputs; ++k) {
        PyObject *x = PyTuple_GetItem(xs, k);
        if (!is_array(x, NPY_FLOAT, count * s->input[k].size)) goto wrong;
        r.x[k] = PyArray_DATA((PyArrayObject *)x);
    }
    if (s->dt) {
        if (!is_array(dts, NPY_DOUBLE, count)) goto wrong;
        r.dt = PyArray_DATA((PyArrayObject *)dts);
    }
    Py_ssize_t done = -2;
    PyObject *result = NULL;
    for (int k = 0; k < s->inputs; ++k) {
        const size_t size = (size_t)s->input[k].columns * sizeof(beyond_t);
        if (!s->input[k].beyond) continue;
        if (!(r.beyond[k] = malloc(size))) {
            PyErr_NoMemory();
            goto end;
        }
        memcpy(r.beyond[k], s->input[k].beyond, size);
    }
    done = rows(s, &r, count);
    result = done < 0 ? NULL : PyLong_FromSsize_t(done);
    if (result && done == count) {
        PyObject *now = Py_BuildValue("(iOLOOO)", (int)(count & 1), last, s->steps + count * s->unroll,
                                      PyTuple_GetItem(s->moment, 3), Py_True, Py_None);
        if (!now || moment_put(s, now)) Py_CLEAR(result);
        Py_XDECREF(now);
        for (int k = 0; result && k < s->inputs; ++k)
            if (r.beyond[k]) memcpy(s->input[k].beyond, r.beyond[k], (size_t)s->input[k].columns * sizeof(beyond_t));
    }
end:
    for (int k = 0; k < s->inputs; ++k) free(r.beyond[k]);
    return result;
wrong:
    PyErr_SetString(PyExc_TypeError, "a recording of other arrays than the stream's");
    return NULL;
}

/* ---- what Python tells it -------------------------------------------------------------------------------------- */

/* _commit(now, samples): the stream stands at `now`, after calls whose samples, bytes for each input, are counted. */
static PyObject *commit(Core *s, PyObject *given)
{
    PyObject *now, *samples;
    if (!PyArg_ParseTuple(given, "OO!", &now, &PyList_Type, &samples)) return NULL;
    const Py_ssize_t calls = PyList_Size(samples);
    for (Py_ssize_t k = 0; k < calls; ++k) {
        PyObject *call = PyList_GetItem(samples, k);
        if (!PyTuple_Check(call) || PyTuple_Size(call) != s->inputs) goto wrong;
        for (int i = 0; i < s->inputs; ++i) {
            PyObject *x = PyTuple_GetItem(call, i);
            if (!PyBytes_Check(x) || PyBytes_Size(x) != s->input[i].size * (Py_ssize_t)sizeof(float)) goto wrong;
        }
    }
    if (moment_put(s, now)) return NULL;
    for (Py_ssize_t k = 0; k < calls; ++k)
        for (int i = 0; i < s->inputs; ++i) {
            PyObject *x = PyTuple_GetItem(PyList_GetItem(samples, k), i);
            count_outside(&s->input[i], (const float *)PyBytes_AsString(x), s->input[i].beyond);
        }
    Py_RETURN_NONE;
wrong:
    PyErr_SetString(PyExc_TypeError, "samples of another stream");
    return NULL;
}

static int clear(Core *s)
{
    s->advance = NULL; /* first, as what goes may have a finalizer that calls this stream */
    s->moved = s->bounds = 0;
    Py_CLEAR(s->held);
    Py_CLEAR(s->moment);
    Py_CLEAR(s->kept);
    Py_CLEAR(s->bounded);
    Py_CLEAR(s->mark);
    for (int k = 0; k < MOST; ++k) {
        Py_CLEAR(s->input[k].name);
        Py_CLEAR(s->names[k]);
        Py_CLEAR(s->output[0][k]);
        Py_CLEAR(s->output[1][k]);
    }
    Py_CLEAR(s->results[0]);
    Py_CLEAR(s->results[1]);
    s->inputs = s->outputs = 0;
    return 0;
}

/* The address of an array of float32 with `size` numbers, NULL for None. */
static int numbers(PyObject *value, Py_ssize_t size, const float **found)
{
    *found = NULL;
    if (value == Py_None) return 1;
    if (!is_array(value, NPY_FLOAT, size)) return 0;
    *found = PyArray_DATA((PyArrayObject *)value);
    return 1;
}

static int arm_input(input_t *in, PyObject *row)
{
    PyObject *view, *low, *high, *lowest, *highest;
    if (!PyArg_ParseTuple(row, "OOnOOOO", &in->name, &view, &in->columns, &low, &high, &lowest, &highest)) {
        in->name = NULL;
        return -1;
    }
    Py_INCREF(in->name);
    if (!PyUnicode_CheckExact(in->name) || !PyArray_Check(view) || PyArray_NDIM((PyArrayObject *)view) > AXES) return -1;
    PyArrayObject *a = (PyArrayObject *)view;
    in->axes = PyArray_NDIM(a), in->size = PyArray_SIZE(a), in->place = PyArray_DATA(a);
    for (int k = 0; k < in->axes; ++k) in->shape[k] = PyArray_DIM(a, k);
    if (!is_array(view, NPY_FLOAT, in->size) || in->columns < 1 || in->size % in->columns) return -1;
    if (!numbers(low, in->size, &in->low) || !numbers(high, in->size, &in->high)) return -1;
    if (!numbers(lowest, in->size, &in->lowest) || !numbers(highest, in->size, &in->highest)) return -1;
    if (!in->low != !in->high || !in->lowest != !in->highest) return -1;
    in->beyond = in->lowest ? calloc((size_t)in->columns, sizeof(beyond_t)) : NULL;
    return in->lowest && !in->beyond ? -1 : 0;
}

static int arm_outputs(Core *s, PyObject *names, PyObject *first, PyObject *second)
{
    s->outputs = (int)PyTuple_Size(names);
    if (s->outputs < 1 || s->outputs > MOST || PyTuple_Size(first) != s->outputs || PyTuple_Size(second) != s->outputs)
        return -1;
    for (int k = 0; k < s->outputs; ++k) {
        Py_INCREF(s->names[k] = PyTuple_GetItem(names, k));
        for (int p = 0; p < 2; ++p) {
            PyObject *a = PyTuple_GetItem(p ? second : first, k);
            if (!PyArray_Check(a) || !is_array(a, NPY_FLOAT, PyArray_SIZE((PyArrayObject *)a))) return -1;
            Py_INCREF(s->output[p][k] = (PyArrayObject *)a);
        }
    }
    return 0;
}

/* _arm(addresses, inputs, time, outputs, unroll, reuse, kept): see `runtime/compiled/stream.py`, the only caller. */
static PyObject *arm(Core *s, PyObject *given)
{
    unsigned long long function, work, sample, first, second;
    PyObject *inputs, *timing, *results, *names, *one, *two, *kept;
    int reuse;
    if (s->advance || s->inputs) goto wrong;
    if (!PyArg_ParseTuple(given, "(KKKKK)O!OnO!(O!O!O!)LpO", &function, &work, &sample, &first, &second, &PyTuple_Type,
                          &inputs, &timing, &s->output_bytes, &PyTuple_Type, &results, &PyTuple_Type, &names,
                          &PyTuple_Type, &one, &PyTuple_Type, &two, &s->unroll, &reuse, &kept))
        return NULL;
    if (PyTuple_Size(inputs) < 1 || PyTuple_Size(inputs) > MOST || PyTuple_Size(results) != 2) goto wrong;
    s->inputs = (int)PyTuple_Size(inputs);
    for (int k = 0; k < s->inputs; ++k)
        if (arm_input(&s->input[k], PyTuple_GetItem(inputs, k))) goto wrong;
    if (timing != Py_None) {
        PyObject *dt;
        if (!PyArg_ParseTuple(timing, "Oddd", &dt, &s->shortest_s, &s->longest_s, &s->period_s)) return NULL;
        if (!PyArray_Check(dt) || !is_array(dt, NPY_FLOAT, PyArray_SIZE((PyArrayObject *)dt))) goto wrong;
        s->dt = PyArray_DATA((PyArrayObject *)dt), s->dts = PyArray_SIZE((PyArrayObject *)dt);
    }
    if (arm_outputs(s, names, one, two)) goto wrong;
    for (int k = 0; k < 2; ++k) Py_INCREF(s->results[k] = PyTuple_GetItem(results, k));
    Py_INCREF(s->kept = kept);
    s->reuse = reuse, s->work = (void *)(uintptr_t)work, s->sample = (void *)(uintptr_t)sample;
    s->places[0] = (void *)(uintptr_t)first, s->places[1] = (void *)(uintptr_t)second;
    s->advance = (advance_t)(uintptr_t)function;
    Py_RETURN_NONE;
wrong:
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "no stream of this form can be stepped in C");
    return NULL;
}

static int traverse(Core *s, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)s));
    Py_VISIT(s->held);
    Py_VISIT(s->moment);
    Py_VISIT(s->kept);
    Py_VISIT(s->bounded);
    Py_VISIT(s->mark);
    Py_VISIT(s->results[0]);
    Py_VISIT(s->results[1]);
    return 0;
}

static void dealloc(Core *s)
{
    PyTypeObject *type = Py_TYPE((PyObject *)s);
    const freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    PyObject_GC_UnTrack(s);
    for (int k = 0; k < MOST; ++k) free(s->input[k].beyond);
    clear(s);
    release(s);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"step", (PyCFunction)(void *)step, METH_FASTCALL | METH_KEYWORDS, NULL}, /* its text comes with `make_core` */
    {"_run_rows", (PyCFunction)run_rows, METH_VARARGS, "A whole recording."},
    {"_commit", (PyCFunction)commit, METH_VARARGS, "What the stream stands at, and the samples that led there."},
    {"_guarded", (PyCFunction)(void *)guarded, METH_FASTCALL, "A step under guard, or None."},
    {"_back", (PyCFunction)back, METH_O, "Take a step under guard back."},
    {"_practise", (PyCFunction)practise, METH_O, "A step that does not count."},
    {"_bound", (PyCFunction)bound, METH_O, "What the states keep to in a step under guard."},
    {"_counted", (PyCFunction)counted, METH_NOARGS, "What lay outside the ranges, by input and column."},
    {"_arm", (PyCFunction)arm, METH_VARARGS, "Where everything lies."},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef members[] = {
    {"_held", T_OBJECT_EX, offsetof(Core, held), 0, "The stream's token."},
    {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef properties[] = {
    {"_now", (getter)moment_get, (setter)moment_set, "What the stream stands at.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc}, {Py_tp_traverse, traverse}, {Py_tp_clear, clear},
    {Py_tp_methods, methods}, {Py_tp_members, members},   {Py_tp_getset, properties},
    {0, NULL},
};
static PyType_Spec spec = {"lnn_edge.runtime.compiled._step.Core", sizeof(Core), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

/* make_core(text): the type, with the text of `Stream.step`, which is written once and in Python. */
static PyObject *make_core(PyObject *module, PyObject *text)
{
    (void)module;
    Py_ssize_t size;
    const char *own = PyUnicode_AsUTF8AndSize(text, &size);
    if (!own) return NULL;
    char *kept = malloc((size_t)size + 1); /* for as long as the type, which is for ever */
    if (!kept) return PyErr_NoMemory();
    memcpy(kept, own, (size_t)size + 1);
    methods[0].ml_doc = kept;
    return PyType_FromSpec(&spec);
}

/* within(value, low, high): whether each number of a float32 array is one of its range; for the guard of a state. NaN is
   in none. */
static PyObject *within(PyObject *module, PyObject *const *given, Py_ssize_t count)
{
    (void)module;
    const npy_intp size = count == 3 && PyArray_Check(given[0]) ? PyArray_SIZE((PyArrayObject *)given[0]) : -1;
    if (size < 0 || !is_array(given[0], NPY_FLOAT, size) || !is_array(given[1], NPY_FLOAT, size) ||
        !is_array(given[2], NPY_FLOAT, size)) {
        PyErr_SetString(PyExc_TypeError, "within takes three arrays of float32, of one size");
        return NULL;
    }
    const float *x = PyArray_DATA((PyArrayObject *)given[0]), *low = PyArray_DATA((PyArrayObject *)given[1]),
                *high = PyArray_DATA((PyArrayObject *)given[2]);
    return PyBool_FromLong(all_within(x, low, high, size));
}

/* limited(raw, sent, most_s, low, high, slew): see `OutputLimits`. An output, float32, kept within `low` to `high` and by at
   most `slew * most_s` from what was sent before, each array or None: `raw` itself where nothing changes it, else a new
   array, read-only; None where NumPy must look at it. */
static PyObject *limited(PyObject *module, PyObject *const *given, Py_ssize_t count)
{
    (void)module;
    const npy_intp size = count == 6 && PyArray_Check(given[0]) ? PyArray_SIZE((PyArrayObject *)given[0]) : -1;
    const double most_s = count == 6 && PyFloat_CheckExact(given[2]) ? PyFloat_AsDouble(given[2]) : NAN;
    const float *side[4] = {NULL, NULL, NULL, NULL}; /* raw, sent, low, high */
    const int places[4] = {0, 1, 3, 4};
    const double *slew = NULL;
    if (size < 0 || most_s != most_s) Py_RETURN_NONE;
    for (int k = 0; k < 4; ++k) {
        PyObject *own = given[places[k]];
        if (own == Py_None) continue;
        if (!is_array(own, NPY_FLOAT, size)) Py_RETURN_NONE;
        side[k] = PyArray_DATA((PyArrayObject *)own);
    }
    if (given[5] != Py_None) {
        if (!is_array(given[5], NPY_DOUBLE, size)) Py_RETURN_NONE;
        slew = PyArray_DATA((PyArrayObject *)given[5]);
    }
    const float *raw = side[0], *sent = slew ? side[1] : NULL, *low = side[2], *high = side[3];
    PyArrayObject *y = NULL;
    if (!raw || !low != !high) Py_RETURN_NONE;
    for (npy_intp i = 0; i < size; ++i) {
        float own = raw[i];
        if (sent) {
            const double most = slew[i] * most_s, least = sent[i] - most, greatest = sent[i] + most;
            if (!(least <= greatest)) goto numpy; /* what was sent is not finite */
            own = (float)((double)own < least ? least : (double)own > greatest ? greatest : (double)own);
        }
        if (low) own = own < low[i] ? low[i] : own > high[i] ? high[i] : own;
        if (own == raw[i]) continue;
        if (!y) {
            y = (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM((PyArrayObject *)given[0]),
                                                   PyArray_DIMS((PyArrayObject *)given[0]), NPY_FLOAT);
            if (!y) return NULL;
            memcpy(PyArray_DATA(y), raw, (size_t)size * sizeof(float));
        }
        ((float *)PyArray_DATA(y))[i] = own;
    }
    if (!y) {
        Py_INCREF(given[0]);
        return given[0];
    }
    PyArray_CLEARFLAGS(y, NPY_ARRAY_WRITEABLE);
    return (PyObject *)y;
numpy:
    Py_XDECREF(y);
    Py_RETURN_NONE;
}

/* ---- a tick in memory ------------------------------------------------------------------------------------------ */

static int whole_of(PyObject *given, long long low, long long high, long long *found)
{
    if (!PyLong_Check(given)) return 0;
    *found = PyLong_AsLongLong(given);
    if (*found == -1 && PyErr_Occurred()) { /* too large */
        PyErr_Clear();
        return 0;
    }
    return *found >= low && *found <= high;
}

/* A time, or that there is none. */
static int seconds_of(PyObject *given, double *found)
{
    *found = NAN;
    if (given != Py_None && !PyFloat_CheckExact(given)) return 0;
    if (given != Py_None) *found = PyFloat_AsDouble(given);
    return 1;
}

static int flag_of(PyObject *given, unsigned char *found)
{
    *found = given == Py_True;
    return given == Py_True || given == Py_False;
}

/* pack(memory, start, layout, tick, number, t_s, mono_ns, wall_ns, has_state): see `Ring.put`. A tick of a sample that was
   stepped, plain arrays and numbers alone, where it belongs in a bytearray, little-endian; False where Python must do it,
   and nothing has changed. The layout: bytes of a tick, where the sample is and how many numbers it has, where the output,
   where that of the model, and how many numbers these have. */
static PyObject *pack(PyObject *module, PyObject *const *given, Py_ssize_t count)
{
    (void)module;
    enum { HEAD = 48, MOST_BYTES = 1 << 30 };
    long long start, layout[6], number, mono, wall, stepped, status;
    double t_s, dt_s;
    unsigned char flags[3];
    PyObject *tick = count == 9 ? given[3] : NULL;
    if (!tick || !PyByteArray_CheckExact(given[0]) || !PyTuple_Check(given[2]) || PyTuple_Size(given[2]) != 6) goto python;
    if (!PyTuple_Check(tick) || PyTuple_Size(tick) != 9) goto python;
    for (int k = 0; k < 6; ++k)
        if (!whole_of(PyTuple_GetItem(given[2], k), k == 2 || k == 5 ? 0 : HEAD, MOST_BYTES, &layout[k])) goto python;
    const long long size = layout[0], x_size = 4 * layout[2], y_size = 4 * layout[5];
    if (layout[1] + x_size > size || layout[3] + y_size > size || layout[4] + y_size > size) goto python;
    if (!whole_of(given[1], 0, PyByteArray_Size(given[0]) - size, &start)) goto python;
    PyObject *x = PyTuple_GetItem(tick, 6), *y = PyTuple_GetItem(tick, 1), *raw = PyTuple_GetItem(tick, 2);
    const int wide = is_array(x, NPY_DOUBLE, layout[2]);
    if (!wide && !is_array(x, NPY_FLOAT, layout[2])) goto python;
    if (!is_array(y, NPY_FLOAT, layout[5]) || !is_array(raw, NPY_FLOAT, layout[5])) goto python;
    const long long least = -0x7fffffffffffffffLL - 1, most = 0x7fffffffffffffffLL;
    if (!whole_of(given[4], least, most, &number) || !seconds_of(given[5], &t_s) || !whole_of(given[6], least, most, &mono) ||
        !whole_of(given[7], least, most, &wall) || !seconds_of(PyTuple_GetItem(tick, 5), &dt_s) ||
        !whole_of(PyTuple_GetItem(tick, 3), 1, 0xffffffffLL, &stepped) ||
        !whole_of(PyTuple_GetItem(tick, 0), 0, 255, &status) || !flag_of(PyTuple_GetItem(tick, 4), &flags[0]) ||
        !flag_of(PyTuple_GetItem(tick, 8), &flags[1]) || !flag_of(given[8], &flags[2]))
        goto python;
    char *to = PyByteArray_AsString(given[0]) + start;
    const unsigned steps = (unsigned)stepped;
    memcpy(to, &number, 8), memcpy(to + 8, &t_s, 8), memcpy(to + 16, &mono, 8), memcpy(to + 24, &wall, 8);
    memcpy(to + 32, &dt_s, 8), memcpy(to + 40, &steps, 4);
    to[44] = (char)status, memcpy(to + 45, flags, 3);
    if (wide)
        for (long long i = 0; i < layout[2]; ++i) {
            const float own = (float)((const double *)PyArray_DATA((PyArrayObject *)x))[i];
            memcpy(to + layout[1] + 4 * i, &own, 4);
        }
    else
        memcpy(to + layout[1], PyArray_DATA((PyArrayObject *)x), (size_t)x_size);
    memcpy(to + layout[3], PyArray_DATA((PyArrayObject *)y), (size_t)y_size);
    memcpy(to + layout[4], PyArray_DATA((PyArrayObject *)raw), (size_t)y_size);
    Py_RETURN_TRUE;
python:
    Py_RETURN_FALSE;
}

/* ---- many streams ---------------------------------------------------------------------------------------------- */

typedef void (*side_by_side_t)(void *work, size_t count, void *const *places, const float *limits, const unsigned char *may,
                       unsigned char *ok);

/* Until when a thread that has stepped rows may well be on its way to its next call, with the interpreter's lock: some 10 us,
   where one that waits for the lock asleep is awake after 60. So who has done its rows meanwhile looks at the clock first. */
enum { ON_ITS_WAY_NS = 50000 };
static long long on_its_way;
static _Thread_local long long my_way;

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void let_pass(void)
{
    long long until;
    while ((until = __atomic_load_n(&on_its_way, __ATOMIC_ACQUIRE)) && now_ns() < until) {}
}

static void set_out(void)
{
    my_way = now_ns() + ON_ITS_WAY_NS;
    __atomic_store_n(&on_its_way, my_way, __ATOMIC_RELEASE);
}

static void arrive(void)
{
    __atomic_compare_exchange_n(&on_its_way, &my_way, 0, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

static PyObject *new_rows(npy_intp count, PyObject *shape)
{
    npy_intp dims[1 + AXES] = {count};
    const int axes = PyTuple_Check(shape) ? (int)PyTuple_Size(shape) : AXES + 1;
    if (axes > AXES) {
        PyErr_SetString(PyExc_TypeError, "rows of too many axes");
        return NULL;
    }
    for (int k = 0; k < axes; ++k) dims[1 + k] = PyLong_AsSsize_t(PyTuple_GetItem(shape, k));
    return PyErr_Occurred() ? NULL : PyArray_SimpleNew(1 + axes, dims, NPY_FLOAT);
}

/* side_by_side(function, work, limits, given, sizes, shapes, may): see `NativeRows.step`, the only caller. A function of a
   library, and how many bytes it works in; limits or None; what goes in, float32 and row after row, and how many numbers a row
   of each has; shapes of a row of each result; which rows may be done, bool or None. Gives the results in new arrays, and
   which rows were done. Other threads have the interpreter while the rows are stepped, and at no other moment. */
static PyObject *side_by_side(PyObject *module, PyObject *const *args, Py_ssize_t number)
{
    enum { LINE = 64, PLACES = 64 };
    void *places[PLACES], *memory = NULL;
    const float *limits = NULL;
    const unsigned char *may = NULL;
    PyObject *made = NULL;
    (void)module;
    if (number != 7 || !PyTuple_Check(args[3]) || !PyTuple_Check(args[4]) || !PyTuple_Check(args[5])) goto wrong;
    const Py_ssize_t given = PyTuple_Size(args[3]), results = PyTuple_Size(args[5]);
    if (!given || PyTuple_Size(args[4]) != given || given + results > PLACES) goto wrong;
    const side_by_side_t function = (side_by_side_t)(uintptr_t)PyLong_AsVoidPtr(args[0]);
    const Py_ssize_t work = PyLong_AsSsize_t(args[1]);
    if (PyErr_Occurred()) return NULL;
    PyArrayObject *first = (PyArrayObject *)PyTuple_GetItem(args[3], 0);
    if (!function || work < 0 || !PyArray_Check((PyObject *)first) || PyArray_NDIM(first) < 1) goto wrong;
    const npy_intp count = PyArray_DIM(first, 0);
    for (Py_ssize_t k = 0; k < given; ++k) {
        PyObject *own = PyTuple_GetItem(args[3], k);
        const npy_intp size = PyLong_AsSsize_t(PyTuple_GetItem(args[4], k));
        if (size < 0 || size > NPY_MAX_INTP / (count + 1) || !PyArray_Check(own) ||
            !is_array(own, NPY_FLOAT, count * size)) goto wrong;
        places[k] = PyArray_DATA((PyArrayObject *)own);
    }
    if (args[2] != Py_None) {
        if (!PyArray_Check(args[2]) || !is_array(args[2], NPY_FLOAT, PyArray_SIZE((PyArrayObject *)args[2]))) goto wrong;
        limits = PyArray_DATA((PyArrayObject *)args[2]);
    }
    if (args[6] != Py_None) {
        if (!is_array(args[6], NPY_BOOL, count)) goto wrong;
        may = PyArray_DATA((PyArrayObject *)args[6]);
    }
    made = PyTuple_New(results + 1);
    if (!made) return NULL;
    for (Py_ssize_t k = 0; k <= results; ++k) {
        npy_intp rows_done = count;
        PyObject *own = k < results ? new_rows(count, PyTuple_GetItem(args[5], k)) : PyArray_SimpleNew(1, &rows_done, NPY_BOOL);
        if (!own) goto failed;
        if (k < results) places[given + k] = PyArray_DATA((PyArrayObject *)own);
        PyTuple_SetItem(made, k, own);
    }
    memory = malloc((size_t)work + LINE);
    if (!memory) {
        PyErr_NoMemory();
        goto failed;
    }
    unsigned char *ok = PyArray_DATA((PyArrayObject *)PyTuple_GetItem(made, results));
    void *line = (void *)(((uintptr_t)memory + LINE - 1) / LINE * LINE);
    Py_BEGIN_ALLOW_THREADS
    arrive();
    function(line, (size_t)count, places, limits, may, ok);
    let_pass();
    Py_END_ALLOW_THREADS
    set_out();
    free(memory);
    return made;
wrong:
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "rows of other arrays than the library's");
failed:
    Py_XDECREF(made);
    return NULL;
}

static PyMethodDef functions[] = {
    {"side_by_side", (PyCFunction)(void (*)(void))side_by_side, METH_FASTCALL, "Many streams in one call."},
    {"pack", (PyCFunction)(void (*)(void))pack, METH_FASTCALL, "A tick in memory."},
    {"limited", (PyCFunction)(void (*)(void))limited, METH_FASTCALL, "An output within its limits."},
    {"within", (PyCFunction)(void (*)(void))within, METH_FASTCALL, "Whether an array lies in a range."},
    {"make_core", make_core, METH_O, "The type of streams that are stepped in C."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_step", "The step of a stream as a C method.", -1, functions,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__step(void)
{
    import_array();
    slow_name = PyUnicode_InternFromString("_slow_step");
    float32 = PyArray_DescrFromType(NPY_FLOAT);
    float64 = PyArray_DescrFromType(NPY_DOUBLE);
    if (!slow_name || !float32 || !float64) return NULL;
    number64 = float64->typeobj;
    return PyModule_Create(&module);
}
